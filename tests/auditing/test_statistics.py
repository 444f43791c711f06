from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from influence_tables import tables, tensor
from torch import Tensor

from cmiei_hooks.auditing.statistics import EDGES, agreements, histogram, inequality


def first(row: list[float]) -> int | None:
    """The first of the largest values; None if there is no influence at all."""
    return row.index(max(row)) if max(row) else None


def ranks(values: list[float]) -> list[float]:
    """The mean of the places that equal values take among all of them."""
    ordered = sorted(values)
    return [
        ordered.index(v) + (ordered.count(v) + 1) / 2  # places count from 1
        for v in values
    ]


def correlation(x: list[float], y: list[float]) -> float:
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    xy = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    xx, yy = (math.fsum((a - m) ** 2 for a in v) for v, m in ((x, mx), (y, my)))
    return xy / math.sqrt(xx * yy) if xx * yy else math.nan


def agreement(a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    (found,) = agreements([a, b])
    return found


@settings(deadline=None, max_examples=80)
@given(tables(1), st.randoms())
def test_agreement_is_the_same_dominant_modality_and_spearmans_correlation(a, random):
    b = [random.choice([row, [random.choice(row) for _ in row]]) for row in a]
    same, rank_correlation = agreement(tensor(a), tensor(b).float())
    expected = [first(x) == first(y) for x, y in zip(a, b, strict=True)]
    assert same.dtype == torch.float64
    assert same.tolist() == expected
    x, y = (ranks([v for row in rows for v in row]) for rows in (a, b))
    assert rank_correlation == pytest.approx(correlation(x, y), nan_ok=True)


def test_agreement_does_not_depend_on_the_units():
    a = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    same, rank_correlation = agreement(a, a.exp() * 40)
    assert same.mean() == 1
    assert rank_correlation == pytest.approx(1)
    same, rank_correlation = agreement(a, -a)
    assert same.mean() == 0
    assert rank_correlation == pytest.approx(-1)
    assert math.isnan(agreement(a, torch.ones(500, 3))[1])
    assert math.isnan(agreement(a[:0], a[:0])[1])


def test_the_agreements_of_several_estimates_are_those_of_each_two():
    estimates = torch.rand(4, 50, 3, generator=torch.Generator().manual_seed(0)).unbind()
    found = agreements(estimates)
    pairs = [agreement(a, b) for a, b in itertools.combinations(estimates, 2)]
    assert [correlation for _, correlation in found] == [correlation for _, correlation in pairs]
    assert all(torch.equal(x, y) for (x, _), (y, _) in zip(found, pairs, strict=True))


@settings(deadline=None, max_examples=80)
@given(tables(1, most=8))
def test_inequality_is_half_the_mean_difference_over_the_mean(rows):
    def gini(row: list[float]) -> float:
        differences = [abs(a - b) for a in row for b in row]
        mean = math.fsum(row) / len(row)
        return math.fsum(differences) / len(differences) / 2 / mean if mean else 0.0

    assert inequality(tensor(rows)).tolist() == pytest.approx([gini(row) for row in rows])


@settings(deadline=None)
@given(st.integers(2, 8), st.floats(1e-9, 1e6))
def test_inequality_has_its_ends_and_no_unit(count, value):
    equal, one = torch.full((count,), value).double(), torch.eye(count).double() * value
    assert inequality(equal).item() == 0
    assert inequality(one).tolist() == pytest.approx([(count - 1) / count] * count)
    assert inequality(0 * equal).item() == 0
    some = torch.arange(count).double()
    assert inequality(some * value).item() == pytest.approx(inequality(some).item())
    assert inequality(torch.zeros(4, 5, count)).shape == (4, 5)


@settings(deadline=None)
@given(st.lists(st.floats(0, 100) | st.sampled_from(EDGES)))
def test_the_histogram_counts_every_value_once(values):
    counts = histogram(tensor(values))
    bounds = [-math.inf, *EDGES, math.inf]
    assert counts == [
        sum(low <= v < high for v in values) for low, high in itertools.pairwise(bounds)
    ]
    assert all(type(count) is int for count in counts)


def test_a_histogram_with_edges_of_its_own():
    assert histogram(tensor([-2.0, 0.0, 0.5, 1.0, 9.0]), edges=[0, 1]) == [1, 2, 2]
