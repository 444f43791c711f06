"""BCa intervals of the bootstrap for mean differences between paired samples (Efron 1987)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..auditing import random_groups, resampled_sums
from ..validation import ALPHA, Difference

__all__ = ["DRAWS", "bca", "draws_for"]

DRAWS = 10_000
"""Resamples. No p-value is below ``2 / (DRAWS + 1)``."""


def draws_for(lines: int) -> int:
    """The number of resamples with which a difference can survive Holm's correction of the lines.

    The correction multiplies the smallest p-value by the number of lines. With these resamples the
    floor of the p-values, times the lines, is half of ``ALPHA``.
    """
    return max(DRAWS, math.ceil(4 * lines / ALPHA))


def bca(
    differences: Tensor, *, clusters: Tensor | None = None, seed: int, draws: int = DRAWS
) -> list[Difference]:
    """The mean of each column, with its bias-corrected and accelerated interval and p-value.

    The percentiles of the bootstrap are moved by the bias and the skewness of the mean, which the
    resamples and the jackknife show. The p-value is the level at which the interval would just
    touch zero. With ``clusters`` whole clusters are drawn, and left out by the jackknife. More than
    10,000 samples or clusters are drawn, and left out, in random groups.

    Args:
        differences: ``[N, K]``, one value minus the other, sample by sample. A column with NaN has
            no mean.
        clusters: int64 ``[N]``, the same number for samples that belong together; None: every
            sample is a cluster of its own.
        seed: seed of the draws; the global generator is not touched.
        draws: the number of resamples.

    Returns:
        K differences, whose ``n`` is the number of samples or clusters. If all values of a column
        are zero its interval is zero, too; if all are equal otherwise, or there is one unit only,
        the interval is not known (NaN).
    """
    values = differences.double()
    table = torch.cat([torch.ones_like(values[:, :1]), values], dim=1)
    if clusters is not None:
        numbers, cluster = torch.unique(clusters, return_inverse=True)
        table = _sums(table, cluster, len(numbers))
    units, total = len(table), table.sum(0)
    if units < 2:
        means = values.mean(0).tolist()
        return [Difference(mean, math.nan, math.nan, units, math.nan) for mean in means]
    if (groups := random_groups(units, seed)) is not None:
        table = _sums(table, groups, int(groups.max()) + 1)
    sums = resampled_sums(table, draws, seed)
    resampled = (sums[:, 1:] / sums[:, :1]).T.contiguous()
    left_out = (total - table)[:, 1:] / (total - table)[:, :1]
    return [
        _difference(values[:, k], total[1 + k] / total[0], resampled[k], left_out[:, k], units)
        for k in range(values.shape[1])
    ]


def _sums(table: Tensor, place: Tensor, rows: int) -> Tensor:
    return table.new_zeros(rows, table.shape[1]).index_add_(0, place, table)


def _difference(
    values: Tensor, mean: Tensor, resampled: Tensor, left_out: Tensor, units: int
) -> Difference:
    theta = mean.item()
    if not math.isfinite(theta):
        return Difference(math.nan, math.nan, math.nan, units, math.nan)
    if values.min() == values.max():
        known, p = (0.0, 1.0) if theta == 0 else (math.nan, math.nan)
        return Difference(theta, known, known, units, p)
    bias = _normal_score(resampled, mean)
    moved = left_out.mean() - left_out
    acceleration = (moved**3).sum() / (6 * (moved**2).sum() ** 1.5)
    levels = torch.tensor([ALPHA / 2, 1 - ALPHA / 2], dtype=torch.float64)
    shifted = bias + torch.special.ndtri(levels)
    at = torch.special.ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = resampled.quantile(at).tolist()
    at_zero = _normal_score(resampled, torch.zeros_like(mean)) - bias
    one_sided = torch.special.ndtr(at_zero / (1 + acceleration * at_zero) - bias).item()
    p = max(2 * min(one_sided, 1 - one_sided), 2 / (len(resampled) + 1))
    return Difference(theta, low, high, units, p)


def _normal_score(resampled: Tensor, value: Tensor) -> Tensor:
    """The standard normal quantile of the share of resamples below the value; ties count half."""
    rounding = 1e-12 * resampled.abs().max()
    below = (resampled < value - rounding).double() + (resampled <= value + rounding).double()
    least = 0.5 / len(resampled)
    score: Tensor = torch.special.ndtri((below.mean() / 2).clamp(least, 1 - least))
    return score
