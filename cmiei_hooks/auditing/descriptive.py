"""Descriptive figures of recorded influences: agreement, inequality, strata, histogram.

``N`` is the samples, ``M`` the modalities. Influences are finite: samples with NaN or infinite
logits are left out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import dominant

__all__ = ["EDGES", "Stratum", "agreement", "histogram", "inequality", "strata"]

EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Edges for a histogram of influences. Most influences are near 0 and a few are large, so every bin
is about three times as wide as the one before, and the usual values of ABS_THR are edges."""


def agreement(a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """How far two measurements of the same samples say the same.

    Args:
        a: ``[N, M]``, the influences by one measurement (one way to drop a modality, say).
        b: ``[N, M]``, by the other; the units may differ.

    Returns:
        float64 ``[N]``: 1 where both name the same dominant modality, else 0 (the mean is the share
        of such samples); and Spearman's rank correlation of all ``N * M`` influences, equal ones
        with the mean of their ranks, NaN where all influences of one measurement are equal.
    """
    same = (dominant(a) == dominant(b)).double()
    x, y = (ranks - ranks.mean() for ranks in (_ranks(a.flatten()), _ranks(b.flatten())))
    spread = math.sqrt((x @ x).item() * (y @ y).item())
    return same, (x @ y).item() / spread if spread else math.nan


def _ranks(values: Tensor) -> Tensor:
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    ranks: Tensor = last - (count - 1).double() / 2
    return ranks[place]


def inequality(means: Tensor) -> Tensor:
    """The Gini coefficient of influence over the modalities.

    Half the mean absolute difference of two modalities in units of their mean: 0 when all have the
    same influence, ``(M - 1) / M`` when one has it all. 0 also when there is no influence at all.

    Args:
        means: ``[..., M]``, at least 0.

    Returns:
        ``[...]``, without unit.
    """
    differences = (means[..., :, None] - means[..., None, :]).abs().sum((-2, -1))
    total = means.sum(-1)
    return (differences / (2 * means.shape[-1] * total)).masked_fill(total == 0, 0)


@dataclass(frozen=True)
class Stratum:
    """The samples that share one value of an attribute (a camera, a class)."""

    value: str
    n: int
    influence: tuple[float, ...]
    """Mean of each modality, in the units of the measure."""
    dominance: tuple[float, ...]
    """Share of the samples that each modality dominates."""
    inequality: float
    """Gini coefficient of the mean influences."""


def strata(influence: Tensor, codes: Tensor, labels: Sequence[str]) -> list[Stratum]:
    """The figures of the samples with each value of an attribute, the most unequal first.

    Args:
        influence: ``[N, M]``.
        codes: int64 ``[N]``, the index in ``labels`` of the value that each sample has.
        labels: the values.

    Returns:
        One stratum for each value that occurs, by inequality; of equal ones the larger first, then
        in the order of the values' names.
    """
    values, modalities = len(labels), influence.shape[1]
    counts = codes.bincount(minlength=values)
    sums = influence.double().new_zeros(values, modalities)
    means = sums.index_add_(0, codes, influence.double()) / counts[:, None]
    cells = codes * modalities + dominant(influence)
    firsts = cells.bincount(minlength=values * modalities).view(values, modalities)
    found = [
        Stratum(label, n, tuple(mean), tuple(share), gini)
        for label, n, mean, share, gini in zip(
            labels,
            counts.tolist(),
            means.tolist(),
            (firsts / counts[:, None].double()).tolist(),
            inequality(means).tolist(),
            strict=True,
        )
        if n
    ]
    # Rounded: the sums of alike strata of different sizes differ in the last digits.
    return sorted(found, key=lambda s: (-round(s.inequality, 12), -s.n, s.value))


def histogram(values: Tensor, edges: Sequence[float] = EDGES) -> list[int]:
    """How many values lie below the first edge, between two edges, and from the last edge on.

    Args:
        values: ``[N]``.
        edges: ascending. A value that equals an edge belongs to the bin above it.

    Returns:
        ``len(edges) + 1`` counts that add up to N.
    """
    bins = torch.bucketize(
        values.double().contiguous(), torch.tensor(edges, dtype=torch.float64), right=True
    )
    counts: list[int] = bins.bincount(minlength=len(edges) + 1).tolist()
    return counts
