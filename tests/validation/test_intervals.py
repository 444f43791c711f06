"""Intervals against those of scipy, and the verdicts on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cmiei_hooks.validation.intervals import Difference, paired, verdict


@pytest.mark.parametrize("n", [2, 3, 5, 8, 31, 40, 200, 1001])
def test_the_interval_is_that_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    found = paired(list(first), list(second))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.mean == pytest.approx((first - second).mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert found.n == n


def test_if_a_seed_gave_no_number_there_is_no_verdict():
    found = paired([1.0, math.nan, 3.0, 5.0], [0.0, 1.0, 1.0, 2.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert verdict(found, 1) == "not known"


def test_differences_that_are_equal_by_chance_are_no_proof():
    assert verdict(paired([0.81, 0.82], [0.80, 0.81]), 1) == "not known"
    assert verdict(paired([0.5, 0.5], [0.5, 0.5]), 1) == "no difference seen"


@pytest.mark.parametrize(("values", "n"), [([], 0), ([2.0], 1)])
def test_with_fewer_than_two_there_is_no_interval(values, n):
    found = paired(values, [0.0] * n)
    assert found.n == n
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert verdict(found, 1) == "not known"


@pytest.mark.parametrize(
    ("low", "high", "better", "said"),
    [
        (0.1, 0.3, 1, "better"),
        (-0.3, -0.1, 1, "worse"),
        (0.1, 0.3, -1, "worse"),
        (-0.3, -0.1, -1, "better"),
        (0.1, 0.3, 0, "higher"),
        (-0.3, -0.1, 0, "lower"),
        (-0.1, 0.3, 1, "no difference seen"),
        (0.0, 0.3, 1, "no difference seen"),
        (0.0, 0.0, 1, "no difference seen"),
    ],
)
def test_verdicts(low, high, better, said):
    assert verdict(Difference((low + high) / 2, low, high, 5, math.nan), better) == said
