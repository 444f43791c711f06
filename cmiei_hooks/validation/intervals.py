"""Differences of runs with equal seeds, their intervals, and what may be said of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Difference", "paired", "verdict"]

_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""0.975 quantiles of Student's t with 1, 2, ... degrees of freedom."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its 95 % interval (Student's t, over the seeds)."""

    mean: float
    low: float
    high: float
    n: int
    """Seeds that gave a number in both."""


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """First minus second, seed by seed.

    There is no interval if a seed gave no number, for it may have done so because of what is
    compared; nor if all differences are equal but for rounding, which says nothing of their spread.
    """
    pairs = list(zip(first, second, strict=True))
    values = [a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    mean = statistics.fmean(values) if values else math.nan
    spread = max(values) - min(values) if values else 0.0
    equal = mean != 0 and spread < 1e-9 * abs(mean)
    if len(values) < max(len(pairs), 2) or equal:
        return Difference(mean, math.nan, math.nan, len(values))
    freedom = len(values) - 1
    # Beyond the table its last terms are exact to three digits.
    quantile = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.42 / freedom
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return Difference(mean, mean - half, mean + half, len(values))


def verdict(difference: Difference, better: int) -> str:
    """In words; ``better`` is 1 where more is better, -1 where less is, 0 where neither.

    An interval that touches zero shows no difference, which does not mean that there is none.
    """
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "not known"
    sign = 1 if difference.low > 0 else -1 if difference.high < 0 else 0
    if not sign:
        return "no difference seen"
    if not better:
        return "higher" if sign > 0 else "lower"
    return "better" if sign == better else "worse"
