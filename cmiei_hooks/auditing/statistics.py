"""Descriptive statistics of recorded influences: agreement, inequality, histogram.

``N`` is the samples, ``M`` the modalities. Influences are finite: samples with NaN or infinite
logits are left out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from ..functional import dominant
from ..measures import FLOOR

__all__ = ["EDGES", "agreements", "histogram", "inequality"]

EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Edges for a histogram of influences. Most influences are near 0 and a few are large, so every bin
is about three times as wide as the one before, and the usual values of ABS_THR are edges."""


def agreements(estimates: Sequence[Tensor], floor: float = FLOOR) -> list[tuple[Tensor, float]]:
    """How far each two estimates of the same samples agree.

    Args:
        estimates: ``[N, M]`` each, the influences (with one baseline, for example); the units may
            differ.
        floor: influences up to here make no modality dominant.

    Returns:
        For each pair, in the order of ``itertools.combinations``: float64 ``[N]``, 1 where both
        find the same modality dominant, or both none, else 0 (the mean is the share of such
        samples); and Spearman's rank correlation of all ``N * M`` influences, where equal ones get
        the mean of their ranks. It is NaN if all influences of one estimate are equal.
    """
    known = [(dominant(values, floor), _deviations(values)) for values in estimates]
    found = []
    for (first, x), (other, y) in combinations(known, 2):
        spread = math.sqrt((x @ x).item() * (y @ y).item())
        found.append(((first == other).double(), (x @ y).item() / spread if spread else math.nan))
    return found


def _deviations(values: Tensor) -> Tensor:
    """The ranks of all values, less their mean."""
    ranks = _ranks(values.flatten())
    return ranks - ranks.mean()


def _ranks(values: Tensor) -> Tensor:
    _, index, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    ranks: Tensor = last - (count - 1).double() / 2
    return ranks[index]


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


def histogram(values: Tensor, edges: Sequence[float] = EDGES) -> list[int]:
    """The number of values below the first edge, between two edges, and from the last edge on.

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
