from __future__ import annotations

import math

import pytest
import torch

from cmiei_hooks.training.statistics import Statistics, Totals


def test_metrics_are_averaged_over_the_estimation_steps():
    statistics = Statistics(["a", "b"])
    one = torch.tensor([[0.1, 0.4], [0.6, 0.2], [0.3, 0.1], [0.2, 0.1]])
    two = torch.tensor([[0.9, 0.8]])
    statistics.add(one, torch.tensor([1, -1, 0, -1]))
    statistics.add(two, torch.tensor([-1]))
    assert statistics.metrics() == pytest.approx(
        {
            "C_MIEI_Ratio": (2 / 4 + 0) / 2,
            "CI_a": ((0.1 + 0.6 + 0.3 + 0.2) / 4 + 0.9) / 2,
            "CI_b": ((0.4 + 0.2 + 0.1 + 0.1) / 4 + 0.8) / 2,
            "Hist_a": (3 / 4 + 1) / 2,
            "Hist_b": (1 / 4 + 0) / 2,
        },
        abs=1e-7,
    )
    assert list(statistics.metrics()) == ["C_MIEI_Ratio", "CI_a", "CI_b", "Hist_a", "Hist_b"]


def test_a_step_without_any_finite_sample_does_not_count():
    statistics = Statistics(["a", "b"])
    statistics.add(torch.tensor([[0.2, 0.4]]), torch.tensor([1]))
    before = statistics.metrics()
    statistics.add(torch.full((3, 2), math.nan), torch.tensor([-1, -1, -1]))
    assert statistics.metrics() == before
    assert statistics.totals.left_out == 3


def test_before_the_first_estimate_and_after_a_reset_everything_is_nan():
    statistics = Statistics(["a", "b"])
    assert all(math.isnan(v) for v in statistics.metrics().values())
    statistics.add(torch.ones(2, 2), torch.tensor([-1, -1]))
    assert not any(math.isnan(v) for v in statistics.metrics().values())
    statistics.reset()
    assert all(math.isnan(v) for v in statistics.metrics().values())


def test_samples_that_are_not_finite_are_counted_and_left_out():
    statistics = Statistics(["a", "b"])
    influence = torch.tensor([[0.1, 0.4], [math.nan, math.nan], [0.3, 0.1]])
    statistics.add(influence, torch.tensor([1, -1, -1]))
    assert statistics.totals.left_out == 1
    metrics = statistics.metrics()
    assert metrics["C_MIEI_Ratio"] == 0.5
    assert metrics["CI_a"] == pytest.approx(0.2)
    assert metrics["Hist_a"] == 0.5
    statistics.reset()
    assert statistics.totals.left_out == 1


def test_a_long_run_does_not_lose_steps_to_rounding():
    # In float32 a sum stops growing at 2**24 ones.
    statistics = Statistics(["a", "b"])
    statistics.load_state_dict(
        {
            "sums": torch.tensor([2.0**24] * 7, dtype=torch.float64),
            "totals": torch.zeros(6, dtype=torch.float64),
        }
    )
    statistics.add(torch.tensor([[1.0, 0.0]]), torch.tensor([-1]))
    assert statistics.sums[:2].tolist() == [2**24 + 1] * 2
    fresh = Statistics(["a", "b"])
    fresh.add(torch.tensor([[1.0, 0.0]]), torch.tensor([-1]))
    assert fresh.sums.dtype == torch.float64


def test_adding_up_late_makes_no_difference(monkeypatch):
    steps = [
        (torch.rand(size, 3), torch.randint(-1, 3, (size,)), number > 4)
        for number, size in enumerate([4, 4, 7, 0, 4, 7, 1, 4, 4, 7] * 13)
    ]
    steps[5][0][2] = math.nan
    late, at_once = Statistics("rnt"), Statistics("rnt")
    for step in steps:
        late.add(*step)
    monkeypatch.setattr("cmiei_hooks.training.statistics._MOST_STEPS", 1)
    for step in steps:
        at_once.add(*step)
    torch.testing.assert_close(late.sums, at_once.sums, rtol=1e-12, atol=0)
    assert late.totals == at_once.totals


def test_what_is_kept_does_not_grow(monkeypatch):
    statistics = Statistics("rnt")
    most = 0
    for _ in range(1000):
        statistics.add(torch.rand(4, 3), torch.full((4,), -1))
        most = max(most, len(statistics._kept))
    assert most < 50
    monkeypatch.setattr("cmiei_hooks.training.statistics._MOST_NUMBERS", 100)
    for _ in range(20):
        statistics.add(torch.rand(4, 3), torch.full((4,), -1))
        assert len(statistics._kept) < 10


def test_totals_go_on_over_resets():
    statistics = Statistics("ab")
    statistics.add(torch.tensor([[0.9, 0.1], [math.nan, 0.0]]), torch.tensor([-1, -1]))
    statistics.reset()
    statistics.add(torch.tensor([[0.5, 0.1], [0.2, 0.3]]), torch.tensor([0, -1]), acts=True)
    statistics.add(torch.tensor([[0.4, 0.1]]), torch.tensor([1]), acts=True)
    totals = statistics.totals
    assert totals == Totals(1, 3, 4, 2, 2, totals.largest)
    assert totals.largest == pytest.approx(0.5)


def test_samples_without_influence_have_no_dominant_modality():
    statistics = Statistics("ab")
    statistics.add(
        torch.tensor([[0.5, 0.1], [0.0, 0.0], [1e-7, 1e-8], [0.1, 0.3]]), torch.full((4,), -1)
    )
    metrics = statistics.metrics()
    assert (metrics["Hist_a"], metrics["Hist_b"]) == (0.25, 0.25)
    assert statistics.totals.left_out == 0


def test_a_sample_of_which_several_modalities_are_substituted_counts_once():
    statistics = Statistics(["a", "b", "c"])
    chosen = torch.tensor([[True, True, False], [False] * 3, [False, False, True], [False] * 3])
    statistics.add(torch.rand(4, 3), chosen)
    statistics.add(torch.rand(4, 3), torch.tensor([2, -1, -1, -1]))
    assert statistics.metrics()["C_MIEI_Ratio"] == (2 / 4 + 1 / 4) / 2
    assert statistics.totals.substituted == 3


def test_samples_of_which_every_modality_is_substituted_are_counted():
    statistics = Statistics(["a", "b"])
    assert statistics.emptied == 0
    both = torch.tensor([[True, True], [True, False], [False, False]])
    for _ in range(2):
        statistics.add(torch.ones(3, 2), both)
        statistics.add(torch.ones(3, 2), torch.tensor([0, 1, -1]))
        statistics.reset()
    statistics.add(torch.ones(1, 2), both[:1])
    assert statistics.emptied == 3
