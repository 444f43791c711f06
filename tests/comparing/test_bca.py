"""The intervals against scipy's, the formulas written again, and a case whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cmiei_hooks.auditing import bootstrap, resampled_sums
from cmiei_hooks.comparing.bca import bca


def skewed(n: int, columns: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.empty(n, columns, dtype=torch.float64).exponential_(generator=drawn)


def of_scipy(differences: torch.Tensor, resampled: torch.Tensor) -> tuple[float, float]:
    """The interval that scipy makes of these resamples, with its own bias and acceleration."""
    known = stats._resampling.BootstrapResult(None, resampled.numpy(), None)
    found = stats.bootstrap(
        (differences.numpy(),), np.mean, method="BCa", n_resamples=0, bootstrap_result=known
    )
    return tuple(found.confidence_interval)


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.0])
def test_it_is_scipy_s_interval_of_the_same_resamples(shift):
    values = skewed(60, 3) - shift
    values[:, 1] = values[:, 1].round().clamp(-1, 1)  # accuracies: -1, 0 and 1
    sums = resampled_sums(torch.cat([torch.ones_like(values[:, :1]), values], 1), 999, 5)
    for k, found in enumerate(bca(values, seed=5, draws=999)):
        low, high = of_scipy(values[:, k], sums[:, 1 + k] / 60)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
        assert found.mean == pytest.approx(values[:, k].mean().item())
        assert found.n == 60


@pytest.mark.parametrize("paired", [True, pytest.param(False, marks=pytest.mark.negative_control)])
def test_pairs_make_the_interval_narrower(paired):
    before = skewed(200, 1, seed=1)
    after = before + 0.05 * skewed(200, 1, seed=2)
    other = after if paired else after.flip(0)
    (found,) = bca(other - before, seed=0)
    again = stats.bootstrap(
        (after.numpy()[:, 0], before.numpy()[:, 0]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=paired,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (found.low > 0) is paired
    assert bool(again.low > 0) is paired
    if paired:
        assert (found.low, found.high) == pytest.approx((again.low, again.high), rel=0.03)


def test_whole_clusters_are_drawn_and_left_out():
    """The definition, written again with loops over clusters of different sizes."""
    cluster = torch.tensor([3, 3, 3, 8, 8, 1, 1, 1, 1, 5, 6, 6, 2, 9, 9, 9])
    values = skewed(16, 1, seed=3)[:, 0] + cluster / 4
    numbers = sorted(set(cluster.tolist()))
    of = [values[cluster == c].numpy() for c in numbers]
    table = torch.tensor([[len(x), x.sum()] for x in of], dtype=torch.float64)
    sums = resampled_sums(table, 2000, 1).numpy()
    drawn = sums[:, 1] / sums[:, 0]
    mean = values.mean().item()
    ties = np.isclose(drawn, mean, rtol=1e-12)
    assert ties.any()  # each cluster once, with its sum rounded in another order
    bias = stats.norm.ppf(((drawn < mean) & ~ties).mean() + ties.mean() / 2)
    left_out = []
    for c in range(len(of)):
        rest = np.concatenate([x for i, x in enumerate(of) if i != c])
        left_out.append(rest.mean())
    away = np.mean(left_out) - np.array(left_out)
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = []
    for level in (0.025, 0.975):
        z = bias + stats.norm.ppf(level)
        ends.append(np.quantile(drawn, stats.norm.cdf(bias + z / (1 - acceleration * z))))
    (found,) = bca(values[:, None], clusters=cluster, seed=1, draws=2000)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, *ends), rel=1e-9)
    assert found.n == 7
    (alone,) = bca(values[:, None], clusters=torch.arange(16), seed=1)
    assert alone == bca(values[:, None], seed=1)[0]
    assert alone.n == 16


def test_it_covers_the_truth_as_often_as_it_says():
    """1000 experiments of 50 exponential values, whose true mean is 1.

    The binomial error of the share is 0.8 %. Half of the misses should be on each side: the
    percentile interval of the same resamples is too low far more often than too high.
    """
    values = skewed(50, 1000, seed=11)
    found = bca(values, seed=12, draws=2000)
    covered = sum(one.low <= 1 <= one.high for one in found) / 1000
    sums = resampled_sums(values, 2000, 12) / 50
    low, high = sums.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    percentile = ((high < 1).sum() - (low > 1).sum()).item()
    assert 0.92 < covered < 0.96
    assert sum(one.high < 1 for one in found) - sum(one.low > 1 for one in found) < percentile


def test_the_p_value_is_that_of_the_interval_which_touches_zero():
    values = torch.randn(80, 300, generator=torch.Generator().manual_seed(4)).double() + 0.15
    found = bca(values, seed=0, draws=10_000)
    agree = [(one.p < 0.05) is not (one.low <= 0 <= one.high) for one in found]
    assert sum(agree) >= 299  # at the edge, one resample may decide
    assert 20 < sum(one.p < 0.05 for one in found) < 280
    p = torch.tensor([one.p for one in found])
    known = torch.from_numpy(stats.ttest_1samp(values.numpy(), 0).pvalue)
    assert (p - known).abs().max() < 0.06
    assert (p - known).abs().median() < 0.01


def test_no_p_value_is_smaller_than_the_resamples_can_show():
    (found,) = bca(skewed(50, 1) + 1, seed=0, draws=999)
    assert found.p == 2 / 1000


@pytest.mark.parametrize("clustered", [False, True])
def test_many_units_are_put_together_with_the_same_result(monkeypatch, clustered):
    values = skewed(9000, 2, seed=6) - 0.98
    clusters = torch.arange(9000) % 3000 if clustered else None
    whole = bca(values, clusters=clusters, seed=0, draws=4000)
    monkeypatch.setattr(bootstrap, "_MOST_UNITS", 1500)
    for one, other in zip(whole, bca(values, clusters=clusters, seed=0, draws=4000), strict=True):
        assert other.mean == pytest.approx(one.mean, rel=1e-9)
        assert other.n == one.n == (3000 if clustered else 9000)
        width = one.high - one.low
        assert other.low == pytest.approx(one.low, abs=0.05 * width)
        assert other.high == pytest.approx(one.high, abs=0.05 * width)


def test_what_the_resamples_cannot_show_is_not_known():
    same, shifted, broken = torch.zeros(9, 1), torch.full((9, 1), 0.5), torch.ones(9, 1)
    broken[3] = math.nan
    zero, constant, unknown = bca(torch.cat([same, shifted, broken], 1), seed=0)
    assert (zero.mean, zero.low, zero.high, zero.p) == (0, 0, 0, 1)
    assert constant.mean == 0.5
    for one in (constant, unknown):
        assert all(map(math.isnan, (one.low, one.high, one.p)))
    assert math.isnan(unknown.mean)
    (single,) = bca(torch.tensor([[0.1], [0.3]]), clusters=torch.tensor([4, 4]), seed=0)
    assert single.mean == pytest.approx(0.2)
    assert math.isnan(single.low)
    assert single.n == 1


def test_the_seed_decides_and_the_global_generator_is_not_touched():
    values, before = skewed(30, 2), torch.get_rng_state()
    assert bca(values, seed=1) == bca(values, seed=1) != bca(values, seed=2)
    assert torch.equal(before, torch.get_rng_state())
