from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cmiei_hooks.auditing import bootstrap as bootstrap_module
from cmiei_hooks.auditing.bootstrap import (
    Interval,
    bootstrap,
    bootstrap_each,
    random_groups,
    resampled_sums,
)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covered(intervals: list[Interval], truth: float) -> int:
    return sum(one.low <= truth <= one.high for one in intervals)


def skewed(*shape: int, seed: int) -> Tensor:
    """Exponential with mean 1: most values near 0 and a tail, as influences are."""
    return -torch.rand(*shape, generator=rng(seed), dtype=torch.float64).clamp_min(1e-12).log()


def of_identities(data_sets: int, seed: int) -> tuple[Tensor, Tensor]:
    """Each column: 40 identities with 1 to 10 samples that are nearly alike; the mean is 1."""
    sizes = torch.randint(1, 11, (40,), generator=rng(seed))
    cluster = torch.arange(40).repeat_interleave(sizes)
    own = skewed(40, data_sets, seed=seed + 1)
    noise = torch.randn(len(cluster), data_sets, generator=rng(seed + 2), dtype=torch.float64)
    return own[cluster] + 0.1 * noise, cluster


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Columns are data sets. They share the rows that are drawn, so eight seeds are used.
    intervals = [
        one
        for part in range(8)
        for one in bootstrap(skewed(60, 100, seed=part), seed=part, draws=600)
    ]
    share = covered(intervals, 1.0) / 800
    # The percentile interval of 60 skewed values covers at about 0.93, four standard errors of
    # 800 data sets are 0.036.
    assert 0.93 - 0.036 < share < 0.95 + 0.031


def test_the_level_is_the_level():
    half = covered(bootstrap(skewed(200, 600, seed=1), seed=1, level=0.5), 1.0) / 600
    assert abs(half - 0.5) < 4 * math.sqrt(0.25 / 600)


def test_clusters_cover_where_single_samples_do_not():
    by_cluster, by_sample = 0, 0
    for part in range(6):
        values, cluster = of_identities(100, seed=10 * part)
        by_cluster += covered(bootstrap(values, clusters=cluster, seed=part, draws=600), 1.0)
        by_sample += covered(bootstrap(values, seed=part, draws=600), 1.0)
    # 40 skewed clusters of different sizes: about 0.91, four standard errors are 0.047; samples
    # taken as if they were independent: about 0.5.
    assert 0.91 - 0.047 < by_cluster / 600 < 0.97
    assert by_sample / 600 < 0.65


def test_the_width_is_that_of_the_normal_approximation_for_many_samples():
    values = torch.randn(5000, generator=rng(0), dtype=torch.float64) * 3 + 7
    (one,) = bootstrap(values, seed=0, draws=4000)
    half = 1.959964 * 3 / math.sqrt(5000)
    assert one.mean == pytest.approx(values.mean().item(), rel=1e-12)
    assert one.high - one.mean == pytest.approx(half, rel=0.08)
    assert one.mean - one.low == pytest.approx(half, rel=0.08)


def by_hand(values: Tensor, clusters: list[int], seed: int, draws: int) -> list[float]:
    """Draws whole clusters one after the other and looks at every sample of each."""
    numbers, generator = sorted(set(clusters)), rng(seed)
    members = [[i for i, c in enumerate(clusters) if c == number] for number in numbers]
    means = []
    for _ in range(draws):
        drawn = torch.randint(len(numbers), (len(numbers),), generator=generator).tolist()
        rows = [i for position in drawn for i in members[position]]
        means.append(values[rows].mean().item())
    return means


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-3, 3), min_size=4, max_size=14), st.integers(0, 2**31))
def test_whole_clusters_are_drawn(clusters, seed):
    values = torch.randn(len(clusters), generator=rng(seed), dtype=torch.float64)
    (one,) = bootstrap(values, clusters=torch.tensor(clusters), seed=seed, draws=3000)
    assert one.mean == pytest.approx(values.mean().item())
    if len(set(clusters)) == 1:
        assert math.isnan(one.low)
        return
    # The other draws are of another seed, so the two agree within the error of 3000 draws: the
    # bounds must lie at the same share of the other means, ties included.
    other = torch.tensor(by_hand(values, clusters, seed + 1, 1000), dtype=torch.float64)
    for bound, share in ((one.low, 0.025), (one.high, 0.975)):
        assert (other < bound - 1e-9).double().mean() < share + 0.04
        assert (other <= bound + 1e-9).double().mean() > share - 0.04


def test_samples_that_are_clusters_of_their_own_and_numbers_of_any_kind():
    values = skewed(50, 3, seed=3)
    plain = bootstrap(values, seed=5)
    assert bootstrap(values, clusters=torch.arange(50), seed=5) == plain
    far = torch.arange(50) * 1_000_003 - 7
    assert bootstrap(values, clusters=far, seed=5) == plain


def test_every_column_has_its_own_interval_from_the_same_draws():
    values = skewed(30, 4, seed=6)
    together = bootstrap(values, seed=1)
    assert len(together) == 4
    for column in range(4):
        (alone,) = bootstrap(values[:, column], seed=1)
        for got, expected in zip(
            vars(together[column]).values(), vars(alone).values(), strict=True
        ):
            assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("samples", "draws"), [(3, 1), (3, 50_000), (900, 1000), (70_000, 20)])
def test_every_draw_has_as_many_samples_as_there_are_each_as_likely(samples, draws):
    one_of_each = torch.zeros(samples, 3, dtype=torch.float64)
    one_of_each[range(3), range(3)] = 1
    table = torch.cat([torch.ones(samples, 1, dtype=torch.float64), one_of_each], dim=1)
    sums = resampled_sums(table, draws, 0)
    assert sums.shape == (draws, 4)
    assert (sums[:, 0] == samples).all()
    # How often a row is drawn has mean 1 and variance 1 - 1 / samples.
    assert ((sums[:, 1:].mean(0) - 1).abs() < 4 / math.sqrt(draws)).all()
    if draws > 100:
        assert sums[:, 1:].var(0).tolist() == pytest.approx([1 - 1 / samples] * 3, rel=0.25)
        assert len(sums.unique(dim=0)) > 9  # no draw is a copy of the one before


def test_several_tensors_are_columns_of_one_table():
    values, share = skewed(300, 3, seed=2), skewed(300, seed=3) > 0.7
    clusters = torch.arange(300) // 4
    for groups in (None, clusters):
        options = {"clusters": groups, "seed": 1, "draws": 50}
        one = bootstrap(torch.cat([values, share.double()[:, None]], dim=1), **options)
        assert bootstrap([values[:, :1], values[:, 1:], share], **options) == one


def as_alone(sets: list[Tensor], together: list[list[Interval]], seed: int) -> list[bool]:
    """Whether the intervals of each set are those that ``bootstrap`` gives of it alone."""
    return [
        all(
            vars(a) == pytest.approx(vars(b), rel=1e-12, nan_ok=True)
            for a, b in zip(found, bootstrap(values, seed=seed), strict=True)
        )
        for values, found in zip(sets, together, strict=True)
    ]


def test_small_sets_and_the_largest_of_those_that_share_are_resampled_as_alone():
    sizes = [1, 700, 40, 255, 400, 39, 1, 700, 0, 300, 40, 280]
    sets = [skewed(n, 2, seed=i) for i, n in enumerate(sizes)]
    alone = as_alone(sets, bootstrap_each(sets, seed=4), 4)
    assert [n for n, same in zip(sizes, alone, strict=True) if not same] == [400, 280]


def test_sets_that_share_their_draws_are_resampled_in_the_size_that_they_have_in_the_mean(
    monkeypatch,
):
    """Against a loop that draws from the rows of the largest set, one after the other."""
    monkeypatch.setattr(bootstrap_module, "_MANY", 8)
    sets = [skewed(n, seed=n)[:, None] for n in (9, 15, 12)]
    found = bootstrap_each(sets, seed=1, draws=4000)
    generator = rng(2)
    means: list[list[float]] = [[], [], []]
    for _ in range(1500):
        rows = torch.randint(15, (15,), generator=generator).tolist()
        for values, several in zip(sets, means, strict=True):
            mine = [values[row].item() for row in rows if row < len(values)]
            several.append(math.fsum(mine) / len(mine))
    for values, (one,), several in zip(sets, found, means, strict=True):
        assert one.mean == pytest.approx(values.mean().item())
        other = torch.tensor(several, dtype=torch.float64)
        for bound, share in ((one.low, 0.025), (one.high, 0.975)):
            assert (other < bound - 1e-9).double().mean() < share + 0.02
            assert (other <= bound + 1e-9).double().mean() > share - 0.02


def test_sets_that_share_their_draws_have_the_width_of_the_normal_approximation():
    sizes = [5000, 300, 4000, 2600, 2400, 256]
    sets = [torch.randn(n, 2, generator=rng(n), dtype=torch.float64) * 3 + 7 for n in sizes]
    for values, intervals in zip(sets, bootstrap_each(sets, seed=0, draws=4000), strict=True):
        for column, one in zip(values.T, intervals, strict=True):
            half = 1.959964 * column.std(correction=0).item() / math.sqrt(len(column))
            assert one.mean == pytest.approx(column.mean().item(), rel=1e-12)
            assert one.high - one.mean == pytest.approx(half, rel=0.08)
            assert one.mean - one.low == pytest.approx(half, rel=0.08)


def test_sets_that_share_their_draws_cover_the_truth_as_often_as_they_say():
    share = 0.0
    for part in range(4):
        sets = [skewed(256 + n, 100, seed=1000 * part + n) for n in (0, 100, 255)]
        share += sum(covered(one, 1.0) for one in bootstrap_each(sets, seed=part, draws=600)) / 1200
    assert 0.94 - 0.028 < share < 0.95 + 0.025  # four standard errors of 1200 data sets


def test_same_seed_same_interval_other_seed_another_and_the_global_generator_stands_still():
    values = skewed(40, seed=0)
    before = torch.get_rng_state()
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_known_is_null():
    (single,) = bootstrap(torch.tensor([0.25]), seed=0)
    assert single.to_dict() == {"mean": 0.25, "low": None, "high": None}
    clusters = torch.zeros(3, dtype=torch.int64)
    (cluster,) = bootstrap(torch.tensor([1.0, 2.0, 6.0]), clusters=clusters, seed=0)
    assert cluster.to_dict() == {"mean": 3.0, "low": None, "high": None}
    none = bootstrap(torch.zeros(0, 2), seed=0)
    assert [one.to_dict() for one in none] == [{"mean": None, "low": None, "high": None}] * 2
    assert Interval(1.0, 0.5, 2.0).to_dict() == {"mean": 1.0, "low": 0.5, "high": 2.0}


def test_a_share_of_samples():
    (one,) = bootstrap(torch.arange(100) < 30, seed=0)
    assert one.mean == pytest.approx(0.3)
    assert (one.low, one.high) == pytest.approx((0.21, 0.39), abs=0.02)
    (never,) = bootstrap(torch.zeros(100, dtype=torch.bool), seed=0)
    assert (never.low, never.high) == (0.0, 0.0)


@pytest.mark.parametrize("clustered", [False, True])
def test_more_samples_than_are_drawn_one_by_one_are_drawn_in_groups(monkeypatch, clustered):
    """The same means, and the width that drawing each of them gives."""
    values = torch.cat([skewed(6000, 4, seed=5), skewed(6000, 1, seed=6) > 3.0], dim=1)
    clusters = torch.arange(6000).div(2, rounding_mode="floor") if clustered else None
    options = {"clusters": clusters, "seed": 1, "draws": 4000}
    each = bootstrap(values, **options)
    monkeypatch.setattr(bootstrap_module, "_MOST_UNITS", 1000)
    drawn = []
    sums = resampled_sums
    monkeypatch.setattr(
        bootstrap_module, "resampled_sums", lambda t, *a: drawn.append(len(t)) or sums(t, *a)
    )
    grouped = bootstrap(values, **options)
    assert drawn == [1000]
    for a, b in zip(each, grouped, strict=True):
        assert a.mean == b.mean
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.1)
        assert b.low < b.mean < b.high
    assert bootstrap_each([values[:10], values], seed=1, draws=4000)[1] == bootstrap(
        values, seed=1, draws=4000
    )


@pytest.mark.negative_control
def test_groups_are_at_random_and_as_large_as_each_other(monkeypatch):
    """Samples that are alike stand beside each other; groups of neighbours would widen it."""
    monkeypatch.setattr(bootstrap_module, "_MOST_UNITS", 100)
    values = skewed(100, seed=8).repeat_interleave(10)
    half = 1.959964 * values.std().item() / math.sqrt(1000)
    (one,) = bootstrap(values, seed=0, draws=4000)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.3)
    monkeypatch.setattr(bootstrap_module, "random_groups", lambda n, _: torch.arange(n) // 10)
    (one,) = bootstrap(values, seed=0, draws=4000)
    assert one.high - one.low > 2 * 2 * half
    sizes = random_groups(1030, 3).bincount()
    assert len(sizes) == 100
    assert sizes.unique().tolist() == [10, 11]
    assert random_groups(100, 3) is None


def test_a_large_audit():
    values = torch.rand(100_000, 20, generator=rng(0), dtype=torch.float64)
    intervals = bootstrap(values, seed=0, draws=200)
    assert covered(intervals, 0.5) >= 15
