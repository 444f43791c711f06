"""Percentile intervals of the bootstrap for means over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..reporting import finite

__all__ = ["Interval", "bootstrap", "bootstrap_each", "random_groups", "resampled_sums"]

_MOST_UNITS = 10_000
"""The most samples or clusters that are drawn one by one. More are put into this many random
groups: drawing each of a million takes longer than the rest of a report. The groups add less than
one per cent to how much the width of an interval varies with the seed; 1000 draws alone give three.
"""

_AT_ONCE = 2**16
"""Numbers drawn in one call: half a megabyte, which stays in the cache of a core."""
_PRODUCT = 16
"""Calls whose counts share one matrix product; its cost is reading the values."""
_MANY = 256
"""From this many samples on, sets of different sizes share their draws."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; NaN where they are not known.

    It says what other samples of the same kind would give, not what another training run would.
    """

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """The interval for JSON: numbers that are not finite become null."""
        return {"mean": finite(self.mean), "low": finite(self.low), "high": finite(self.high)}


def bootstrap(
    values: Tensor | Sequence[Tensor],
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
    the resamples cannot show what was never seen. More than 10,000 samples or clusters are drawn
    in random groups.

    Args:
        values: ``[N]`` or ``[N, K]`` (bool is a share), or several such tensors, whose columns
            follow one another. A column with NaN has NaN in its interval.
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
    tables = [v[:, None] if v.dim() == 1 else v for v in _listed(values)]
    means = torch.cat([part.mean(0, dtype=torch.float64) for part in tables])
    # The sizes ride along as a column: one product gives both sums of the ratio.
    tables.insert(0, torch.ones(len(tables[0]), 1, dtype=torch.float64))
    unit, units = None, len(tables[0])
    if clusters is not None:
        numbers, unit = torch.unique(clusters, return_inverse=True)
        units = len(numbers)
    if (groups := random_groups(units, seed)) is not None:
        unit, units = groups if unit is None else groups[unit], int(groups.max()) + 1
    if unit is not None:
        tables = [_sums_of(part, unit, units) for part in tables]
    table = torch.cat(tables, dim=1)
    if len(table) < 2:
        return _unknown(means)
    return _around(means, resampled_sums(table, draws, seed), level)


def random_groups(units: int, seed: int) -> Tensor | None:
    """int64 ``[units]``: the group of each of many units, where all groups are as large or larger
    by one; None where the units are few enough to draw each.
    """
    if units <= _MOST_UNITS:
        return None
    order = torch.randperm(units, generator=torch.Generator().manual_seed(seed))
    return order % _MOST_UNITS


def _listed(values: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [values] if isinstance(values, Tensor) else values


def _sums_of(values: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """The sums of the rows of each cluster, in float64."""
    sums = torch.zeros(clusters, values.shape[1], dtype=torch.float64)
    return sums.index_add_(0, cluster, values.double())


def bootstrap_each(
    sets: Sequence[Tensor], *, seed: int, draws: int = 1000, level: float = 0.95
) -> list[list[Interval]]:
    """What ``bootstrap`` says of each of several sets of samples, where many share their draws.

    Sets of one size draw the same rows, which are those that ``bootstrap`` draws with this seed.
    Large sets of different sizes (256 samples or more, the largest about twice the smallest)
    share the draws of the largest one: a set of n samples looks at the draws that are below n. So
    the size of its resamples varies around n, by less than the square root of n, as the size of a
    group does if all samples are resampled. That widens the interval by less than 1 part in 4 n.

    Args:
        sets: ``[N_i, K]`` each, with the same K.
        seed: as in ``bootstrap``.
        draws: as in ``bootstrap``.
        level: as in ``bootstrap``.

    Returns:
        K intervals for each set.
    """
    found = {
        i: bootstrap(values, seed=seed, draws=draws, level=level)
        for i, values in enumerate(sets)
        if len(values) > _MOST_UNITS
    }
    waiting = sorted({*range(len(sets))} - found.keys(), key=lambda i: -len(sets[i]))
    while waiting:
        most = len(sets[waiting[0]])
        least = max(_MANY, most // 2) if most > _MANY else most
        alike = [i for i in waiting if len(sets[i]) >= least]
        waiting = waiting[len(alike) :]
        intervals = _sharing([sets[i] for i in alike], seed, draws, level)
        found |= dict(zip(alike, intervals, strict=True))
    return [found[i] for i in range(len(sets))]


def _sharing(sets: Sequence[Tensor], seed: int, draws: int, level: float) -> list[list[Interval]]:
    """Of sets that share their draws, the largest one first."""
    means = [values.double().mean(0) for values in sets]
    rows = len(sets[0])
    if rows < 2:
        return list(map(_unknown, means))
    table = means[0].new_zeros(rows, len(sets), 1 + len(means[0]))
    for i, values in enumerate(sets):
        table[: len(values), i, 0] = 1
        table[: len(values), i, 1:] = values
    sums = resampled_sums(table.flatten(1), draws, seed).view(draws, *table.shape[1:])
    return [_around(mean, sums[:, i], level) for i, mean in enumerate(means)]


def _unknown(means: Tensor) -> list[Interval]:
    return [Interval(mean, math.nan, math.nan) for mean in means.tolist()]


def _around(means: Tensor, sums: Tensor, level: float) -> list[Interval]:
    """The intervals from the numbers of samples and the sums ``[draws, 1 + K]``."""
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
    together = min(draws, max(1, _AT_ONCE // rows))
    counts = table.new_empty(min(draws, together * _PRODUCT), rows)
    drawn = torch.empty(together, rows, dtype=torch.int64)
    one = table.new_ones(()).expand_as(drawn)
    sums = []
    for start in range(0, draws, len(counts)):
        chunk = counts[: draws - start].zero_()
        for few in torch.split(chunk, together):
            few.scatter_add_(1, drawn[: len(few)].random_(rows, generator=generator), one)
        sums.append(chunk @ table)
    return torch.cat(sums)
