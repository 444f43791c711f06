"""Intervals and p-values against scipy's, Holm's correction against closed tests, the verdicts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cmiei_hooks.validation.intervals import ALPHA, Difference, holm, paired, verdict


@pytest.mark.parametrize("n", [2, 3, 5, 8, 31, 40, 200, 1001])
def test_the_interval_is_that_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    found = paired(list(first), list(second))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.mean == pytest.approx((first - second).mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert found.n == n
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-7, abs=1e-15)
    assert (found.p < ALPHA) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize(("n", "share", "seen"), [(4, 1.001, True), (4, 0.999, False)])
def test_a_mean_difference_is_seen_from_half_of_the_width_on(n, share, seen):
    noise = np.random.default_rng(0).normal(0, 1, n)
    noise -= noise.mean()
    detectable = paired(list(noise), [0.0] * n).detectable
    found = paired(list(noise + share * detectable), [0.0] * n)
    assert found.detectable == pytest.approx(detectable)
    assert (found.low > 0) == seen


def test_a_true_difference_of_that_size_is_missed_about_half_of_the_time():
    """With the spread known: the two-sided z test of an effect of 1.96 standard errors."""
    rng = np.random.default_rng(0)
    trials = [paired(list(rng.normal(0, 1, 400)), [0.0] * 400) for _ in range(40)]
    assert np.mean([one.detectable for one in trials]) == pytest.approx(1.96 / 20, rel=0.02)
    assert stats.norm.sf(1.96, loc=1.96) + stats.norm.cdf(-1.96, loc=1.96) == pytest.approx(
        0.5, abs=1e-4
    )


def closed_tests(p_values: list[float]) -> list[float]:
    """Holm's correction as the closed test of Bonferroni: a hypothesis is rejected if every set of
    hypotheses that it belongs to is rejected.
    """
    sets = [
        (chosen, min(len(chosen) * min(p_values[i] for i in chosen), 1.0))
        for size in range(1, len(p_values) + 1)
        for chosen in itertools.combinations(range(len(p_values)), size)
    ]
    return [max(p for chosen, p in sets if i in chosen) for i in range(len(p_values))]


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_holm_is_the_closed_test_of_bonferroni(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        p_values = list(rng.uniform(0, 0.2, n))
        assert holm(p_values) == pytest.approx(closed_tests(p_values))


def test_holm_in_an_example_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])  # ties
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_p_value_that_is_not_known_is_no_test():
    first, second, third = holm([0.02, math.nan, 0.04])
    assert (first, third) == pytest.approx((0.04, 0.04))
    assert math.isnan(second)


def test_if_a_seed_gave_no_number_there_is_no_verdict():
    found = paired([1.0, math.nan, 3.0, 5.0], [0.0, 1.0, 1.0, 2.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert verdict(found, 1) == "not known"


def test_differences_that_are_equal_by_chance_are_no_proof():
    assert verdict(paired([0.81, 0.82], [0.80, 0.81]), 1) == "not known"
    assert math.isnan(paired([0.81, 0.82], [0.80, 0.81]).p)
    assert verdict(paired([0.5, 0.5], [0.5, 0.5]), 1) == "no difference seen"
    assert paired([0.5, 0.5], [0.5, 0.5]).p == 1


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
