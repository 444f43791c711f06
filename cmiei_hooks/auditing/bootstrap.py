"""Percentile intervals of the bootstrap for means over samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..reporting import finite

__all__ = ["Interval", "bootstrap", "resampled_sums"]

_AT_ONCE = 2**16
"""Counts drawn in one call: half a megabyte, which stays in the cache of a core."""
_PRODUCT = 16
"""Calls whose counts share one matrix product; its cost is reading the values."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; NaN where they are not known."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """The interval for JSON: numbers that are not finite become null."""
        return {"mean": finite(self.mean), "low": finite(self.low), "high": finite(self.high)}


def bootstrap(
    values: Tensor,
    *,
    clusters: Tensor | None = None,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> list[Interval]:
    """The mean of each column, with the percentile interval of the bootstrap.

    Samples of one identity (frames of one track, for example) are alike, so they say less than as
    many samples of different identities. With ``clusters`` whole clusters are drawn, and the
    mean of a draw is the sum over its samples divided by their number.

    The interval says how the mean would vary with other samples of the same kind, not with another
    training run. It is somewhat too narrow for few samples or clusters (with 50 skewed ones,
    intervals of 95 % hold the truth in 91 to 93 %), and of width zero where all values are equal:
    the resamples cannot show what was never seen.

    Args:
        values: ``[N]`` or ``[N, K]`` (bool is a share). A column with NaN has NaN in its interval.
        clusters: int64 ``[N]``, the same number for samples that belong together; None: every
            sample is a cluster of its own.
        seed: seed of the draws; the same seed resamples the same rows whatever the values are. The
            global generator is not touched.
        draws: the number of resamples.
        level: share of the resampled means inside the interval.

    Returns:
        One interval for each of the K columns (one for ``[N]``), in the units of the values. With a
        single sample or cluster the spread is unknown: ``low`` and ``high`` are NaN. Without
        samples the mean is NaN too.
    """
    table = (values[:, None] if values.dim() == 1 else values).double()
    means = table.mean(0)
    # The sizes ride along as a column: one product gives both sums of the ratio.
    table = torch.cat([torch.ones_like(table[:, :1]), table], dim=1)
    if clusters is not None:
        numbers, cluster = torch.unique(clusters, return_inverse=True)
        table = table.new_zeros(len(numbers), table.shape[1]).index_add_(0, cluster, table)
    if len(table) < 2:
        unknown = (math.nan, math.nan)
        return [Interval(mean, *unknown) for mean in means.tolist()]
    sums = resampled_sums(table, draws, seed)
    outside = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = (sums[:, 1:] / sums[:, :1]).quantile(outside, dim=0)
    return list(map(Interval, means.tolist(), low.tolist(), high.tolist()))


def resampled_sums(table: Tensor, draws: int, seed: int) -> Tensor:
    """The sums over as many rows as there are, drawn with replacement.

    Args:
        table: float64 ``[N, K]``.
        draws: the number of resamples.
        seed: the same seed draws the same rows whatever the values are.

    Returns:
        float64 ``[draws, K]``.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = len(table)
    together = max(1, _AT_ONCE // rows)
    counts = table.new_empty(min(draws, together * _PRODUCT), rows)
    sums = []
    for start in range(0, draws, len(counts)):
        chunk = counts[: draws - start]
        for few in torch.split(chunk, together):
            few.copy_(_counts(len(few), rows, generator))
        sums.append(chunk @ table)
    return torch.cat(sums)


def _counts(draws: int, rows: int, generator: torch.Generator) -> Tensor:
    """How often each row is drawn: int64 ``[draws, rows]``."""
    drawn = torch.randint(rows, (draws, rows), generator=generator)
    drawn += rows * torch.arange(draws)[:, None]
    return drawn.flatten().bincount(minlength=draws * rows).view(draws, rows)
