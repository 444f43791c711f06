"""Differences between runs with the same seeds, their confidence intervals and the verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALPHA", "NOT_SEEN", "Difference", "holm", "paired", "verdict"]

ALPHA = 0.05
"""Below this a p-value is called a difference; the intervals are those of 1 - ALPHA."""

NOT_SEEN = "no difference seen"
"""The verdict where the interval contains zero."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, with its 95 % interval (Student's t over the seeds)."""

    mean: float
    low: float
    high: float
    n: int
    """The number of seeds for which both runs gave a finite number."""
    p: float
    """The two-sided p-value of the paired t-test: below 0.05 where the interval excludes zero."""

    @property
    def detectable(self) -> float:
        """The half-width of the interval: the smallest mean difference that would have excluded
        zero, with as many seeds that vary as much as these. If the true difference is just that
        large, about half of such experiments see it.
        """
        return (self.high - self.low) / 2


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """First minus second, seed by seed.

    There is no interval (NaN) if a seed gave no finite number, because what is compared may be the
    cause. Nor is there one if all differences are equal up to rounding: they do not show how much
    other seeds would vary.
    """
    pairs = list(zip(first, second, strict=True))
    values = [a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    mean = statistics.fmean(values) if values else math.nan
    spread = max(values) - min(values) if values else 0.0
    equal = mean != 0 and spread < 1e-9 * abs(mean)
    if len(values) < max(len(pairs), 2) or equal:
        return Difference(mean, math.nan, math.nan, len(values), math.nan)
    freedom, error = len(values) - 1, statistics.stdev(values) / math.sqrt(len(values))
    half = _quantile(freedom) * error
    p = _two_sided(mean / error, freedom) if error else 1.0  # no error: every difference is zero
    return Difference(mean, mean - half, mean + half, len(values), p)


def _two_sided(t: float, freedom: int) -> float:
    """The probability that ``|t|`` is at least as large, for Student's t."""
    angle = math.atan(abs(t) / math.sqrt(freedom))  # as in _quantile
    share = _cosine_integral(freedom - 1, angle) / _cosine_integral(freedom - 1, math.pi / 2)
    return max(1 - share, 0.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979).

    If all that have a corrected value of at most 0.05 are called differences, the probability that
    any of these is due to chance is at most 5 %, however the tests depend on each other. A p-value
    that is not known (NaN) is no test: it does not count, and stays unknown.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min((len(known) - rank) * p, 1.0))
        corrected[i] = largest
    return corrected


def _quantile(freedom: int) -> float:
    """The value that ``|t|`` exceeds with a probability of 5 %, for Student's t.

    With ``t = sqrt(freedom) * tan(angle)`` the density of the angle is proportional to
    ``cos(angle) ** (freedom - 1)``, so bisection finds the angle.
    """
    low, high = 0.0, math.pi / 2
    wanted = (1 - ALPHA) * _cosine_integral(freedom - 1, high)
    for _ in range(60):  # beyond the precision of a double
        middle = (low + high) / 2
        if _cosine_integral(freedom - 1, middle) < wanted:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _cosine_integral(power: int, angle: float) -> float:
    """The integral of ``cos(x) ** power`` from 0 to the angle."""
    total = math.sin(angle) if power % 2 else angle
    for n in range(3 if power % 2 else 2, power + 1, 2):
        total = (math.sin(angle) * math.cos(angle) ** (n - 1) + (n - 1) * total) / n
    return total


def verdict(difference: Difference, better: int) -> str:
    """What the interval shows, in words.

    An interval that touches zero shows no difference, which does not mean that there is none.

    Args:
        difference: of one metric.
        better: 1 if higher is better, -1 if lower is better, 0 if neither is.
    """
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "not known"
    sign = 1 if difference.low > 0 else -1 if difference.high < 0 else 0
    if not sign:
        return NOT_SEEN
    if not better:
        return "higher" if sign > 0 else "lower"
    return "better" if sign == better else "worse"
