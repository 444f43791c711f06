from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cmiei_hooks import CMIEIError, Config
from cmiei_hooks.auditing.thresholds import (
    ABS_THR,
    P_MAX,
    REL_THR,
    WhatIf,
    suggest,
    what_if,
    with_configured,
)
from cmiei_hooks.functional import select

CONFIGURED = {"abs_thr": 0.03, "rel_thr": 1.25, "p_max": 0.5}


def recorded(samples: int, modalities: int, seed: int) -> tuple[Tensor, Tensor]:
    """Skewed influences with ties at the thresholds and NaN rows, in batches of any size."""
    generator = torch.Generator().manual_seed(seed)
    influence = 0.05 * torch.randn(
        samples, modalities, generator=generator, dtype=torch.float64
    ).exp().round(decimals=1)
    influence[torch.rand(samples, generator=generator) < 0.1, -1] = math.nan
    batch = torch.randint(3, 9, (samples,), generator=generator)
    return influence, batch


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(2, 4), st.integers(0, 2**31))
def test_every_cell_is_what_select_chooses_batch_by_batch(samples, modalities, seed):
    influence, batch = recorded(samples, modalities, seed)
    grid = {
        "abs_thr": [0.0, 0.03, 0.05, 0.1, math.inf],
        "rel_thr": [0.0, 1.0, 2.0],
        "p_max": [0.0, 0.29, 0.5, 1.0],
    }
    finite = influence.isfinite().all(1).sum().item()
    cells = what_if(influence, batch, **grid)
    for cell, setting in zip(cells, itertools.product(*grid.values()), strict=True):
        options = dict(zip(grid, setting, strict=True))
        assert {name: getattr(cell, name) for name in grid} == options
        triggered, substituted = [], 0
        for number in batch.unique():
            rows = influence[batch == number]
            chosen = select(rows, **options, sample_level=True)
            substituted += (chosen != -1).sum().item()
            triggered += select(rows, **options | {"p_max": 1.0}, sample_level=True).tolist()
        triggered = [m for m in triggered if m != -1]
        shares = [triggered.count(m) / len(triggered) for m in range(modalities) if triggered]
        assert cell.shares == pytest.approx(shares or [math.nan] * modalities, nan_ok=True)
        if finite:
            assert cell.triggered == pytest.approx(len(triggered) / finite)
            assert cell.substituted == pytest.approx(substituted / finite)
        else:
            assert math.isnan(cell.triggered)
            assert math.isnan(cell.substituted)


def test_the_numbers_of_the_batches_are_only_names_and_rows_may_be_in_any_order():
    influence, batch = recorded(200, 3, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    again = what_if(influence[order], 1_000_003 * batch[order] - 10**9)
    assert repr(again) == repr(what_if(influence, batch))


def test_the_cap_is_for_each_batch():
    influence = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 0.0]] * 4)
    together, alternating = torch.arange(8) // 4, torch.arange(8) % 2
    grid = {"abs_thr": [0.1], "rel_thr": [1.0], "p_max": [0.5]}
    (one_batch,) = what_if(influence, together, **grid)
    (both,) = what_if(influence, alternating, **grid)
    assert (one_batch.triggered, one_batch.substituted) == (0.5, 0.25)
    assert (both.triggered, both.substituted) == (0.5, 0.5)
    (single,) = what_if(influence, torch.arange(8), **grid)
    assert (single.triggered, single.substituted) == (0.5, 0.0)


def test_one_modality_is_refused():
    with pytest.raises(CMIEIError, match="M >= 2"):
        what_if(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_the_grid_contains_the_defaults_and_what_was_configured():
    defaults = Config()
    assert defaults.abs_thr in ABS_THR
    assert defaults.rel_thr in REL_THR
    assert defaults.p_max in P_MAX
    assert with_configured(REL_THR, 1.25) == REL_THR
    assert with_configured(P_MAX, 0) == (0, 0.2, 0.3, 0.5, 1.0)
    assert with_configured(ABS_THR, math.inf) == (*ABS_THR, math.inf)


def test_the_whole_grid_of_a_large_audit():
    generator = torch.Generator().manual_seed(0)
    influence = torch.rand(100_000, 3, generator=generator, dtype=torch.float64) ** 4
    cells = what_if(influence, torch.arange(100_000) // 64)
    assert len(cells) == 7 * 5 * 4


def two_sided(leaders: list[float], ratio: float) -> list[WhatIf]:
    """The grid for samples with these largest influences and the second so many times smaller."""
    first = torch.tensor(leaders, dtype=torch.float64)
    influence = torch.stack([first, first / ratio], dim=1)
    return what_if(influence, torch.zeros(len(leaders), dtype=torch.int64))


def thresholds(suggestion: object) -> tuple[float, float, float]:
    return suggestion.abs_thr, suggestion.rel_thr, suggestion.p_max


@pytest.mark.parametrize("triggered", [1, 3, 6])
def test_a_moderate_setting_is_kept(triggered):
    got = suggest(two_sided([0.2] * triggered + [0.001] * (10 - triggered), 5), **CONFIGURED)
    assert thresholds(got) == (0.03, 1.25, 0.5)
    assert f"{triggered}0.0%" in got.reason
    assert "within the moderate 10% to 60%" in got.reason
    assert "not about whether it helps" in got.reason


def test_a_setting_that_acts_too_rarely_gives_way_to_the_nearest_that_does_not():
    got = suggest(two_sided([0.001] * 6 + [0.012] * 3 + [0.025], 5), **CONFIGURED)
    assert thresholds(got) == (0.02, 1.25, 0.5)
    assert got.reason.startswith("ABS_THR 0.03 and REL_THR 1.25 trigger 0.0% of the samples")
    assert "ABS_THR 0.02 and REL_THR 1.25, the nearest" in got.reason
    assert "would trigger 10.0%" in got.reason


def test_a_setting_that_acts_too_often_gives_way_to_the_nearest_that_does_not():
    leaders = torch.linspace(0.04, 0.11, 10).tolist()
    assert thresholds(suggest(two_sided(leaders, 5), **CONFIGURED)) == (0.1, 1.25, 0.5)
    # When the ratio makes the difference it is the ratio that changes.
    influence = torch.tensor([[1.0, 0.7]] * 6 + [[1.0, 0.1]] * 4, dtype=torch.float64)
    cells = what_if(influence, torch.zeros(10, dtype=torch.int64))
    assert thresholds(suggest(cells, **CONFIGURED)) == (0.03, 1.5, 0.5)


@pytest.mark.parametrize(
    ("leaders", "ratio"),
    [([1e-5] * 10, 50), ([0.0] * 10, 1), ([0.9] * 10, 1.1), ([0.001] * 5 + [0.9] * 5, 1.1)],
)
def test_where_influence_is_tiny_or_balanced_there_is_nothing_to_equalise(leaders, ratio):
    got = suggest(two_sided(leaders, ratio), **CONFIGURED)
    assert thresholds(got) == (0.03, 1.25, 0.5)
    assert "nothing to equalise" in got.reason
    assert "more than 0.0%" in got.reason


def test_where_every_setting_acts_too_often_the_cap_is_named():
    got = suggest(two_sided([2.0] * 10, 50), **CONFIGURED)
    assert thresholds(got) == (0.03, 1.25, 0.5)
    assert "less than 100.0%" in got.reason
    assert "P_MAX 0.5 that limits the substitution, to 50.0%" in got.reason


def test_a_grid_that_jumps_over_the_moderate_shares():
    got = suggest(two_sided([0.04] * 10, 50), **CONFIGURED)
    assert thresholds(got) == (0.03, 1.25, 0.5)
    assert "nothing between too rare and too often" in got.reason


def test_without_finite_influence_nothing_is_suggested():
    cells = what_if(torch.full((3, 2), math.nan), torch.zeros(3, dtype=torch.int64))
    got = suggest(cells, **CONFIGURED)
    assert thresholds(got) == (0.03, 1.25, 0.5)
    assert "no sample has finite influence" in got.reason


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.004, 0.03, 0.5, math.inf]),
    st.sampled_from([0.0, 1.0, 1.25, 7.0]),
    st.sampled_from([0.0, 0.5, 0.7]),
)
def test_a_suggestion_is_the_configured_setting_or_a_moderate_one(seed, abs_thr, rel_thr, p_max):
    influence, batch = recorded(40, 3, seed)
    configured = {"abs_thr": abs_thr, "rel_thr": rel_thr, "p_max": p_max}
    grids = {"abs_thr": ABS_THR, "rel_thr": REL_THR, "p_max": P_MAX}
    grid = {name: with_configured(grids[name], configured[name]) for name in grids}
    cells = {(c.abs_thr, c.rel_thr, c.p_max): c for c in what_if(influence, batch, **grid)}
    got = suggest(list(cells.values()), **configured)
    chosen = thresholds(got)
    moderate = 0.1 <= cells[chosen].triggered <= 0.6
    kept = chosen == (abs_thr, rel_thr, p_max)
    assert kept or moderate
    assert chosen[2] == p_max
    if not kept:
        assert got.rel_thr > 1
    if not moderate:
        others = [c for c in cells.values() if c.rel_thr > 1]
        assert not any(0.1 <= c.triggered <= 0.6 for c in others)
    assert "nan" not in got.reason
