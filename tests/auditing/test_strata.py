from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from influence_tables import tables, tensor

from cmiei_hooks.auditing.bootstrap import bootstrap
from cmiei_hooks.auditing.statistics import inequality
from cmiei_hooks.auditing.strata import report_strata, strata


@settings(deadline=None, max_examples=80)
@given(tables(1), st.integers(1, 4), st.randoms())
def test_strata_are_the_means_and_shares_of_each_value(rows, count, random):
    labels = [f"cam{c}" for c in range(count)]
    codes = [random.randrange(count) for _ in rows]
    found = strata(tensor(rows).float(), torch.tensor(codes), labels)
    assert sorted(s.value for s in found) == sorted({labels[c] for c in codes})
    for one in found:
        mine = [row for row, c in zip(rows, codes, strict=True) if labels[c] == one.value]
        means = [math.fsum(column) / len(mine) for column in zip(*mine, strict=True)]
        firsts = [row.index(max(row)) if max(row) else None for row in mine]
        assert one.n == len(mine)
        assert one.influence == pytest.approx(means)
        assert one.dominance == pytest.approx([firsts.count(m) / one.n for m in range(len(means))])
        assert one.inequality == pytest.approx(inequality(tensor(means)).item())
    keys = [(-round(s.inequality, 12), -s.n, s.value) for s in found]
    assert keys == sorted(keys)


def test_strata_that_are_equally_unequal_come_by_size_and_name():
    # Sums are rounded: the inequality of the three samples comes out larger in the last digit.
    codes = torch.tensor([0] * 3 + [2] * 7 + [1] * 7 + [3])
    influence = tensor([[0.1, 0.2]]).repeat(18, 1)
    influence[-1] = tensor([0.0, 0.3])
    found = strata(influence, codes, ["a few", "c", "b", "one-sided", "absent"])
    assert [s.value for s in found] == ["one-sided", "b", "c", "a few"]


def test_the_intervals_of_strata_of_one_size_are_those_of_each_alone():
    torch.manual_seed(0)
    sizes = {"a": 40, "b": 12, "c": 40, "d": 1, "e": 12}
    values = [value for value, size in sizes.items() for _ in range(size)]
    influence = torch.rand(len(values), 3, dtype=torch.float64)
    order = torch.randperm(len(values))
    influence, values = influence[order], [values[i] for i in order]
    found = report_strata("rnt", influence, {"camera": values}, seed=3)["camera"]
    assert {one["value"] for one in found} == {*sizes}
    for one in found:
        mine = influence[[i for i, value in enumerate(values) if value == one["value"]]]
        for name, interval in zip("rnt", bootstrap(mine, seed=3), strict=True):
            expected = pytest.approx([interval.low, interval.high], rel=1e-12, nan_ok=True)
            assert one["interval"][name] == expected
