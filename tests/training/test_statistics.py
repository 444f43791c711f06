from __future__ import annotations

import math

import pytest
import torch

from cmiei_hooks.training.statistics import Statistics


def test_figures_are_averaged_over_the_estimation_steps():
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
    assert statistics.left_out == 3


def test_before_the_first_measurement_and_after_a_reset_everything_is_nan():
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
    assert statistics.left_out == 1
    metrics = statistics.metrics()
    assert metrics["C_MIEI_Ratio"] == 0.5
    assert metrics["CI_a"] == pytest.approx(0.2)
    assert metrics["Hist_a"] == 0.5
    statistics.reset()
    assert statistics.left_out == 1


def test_a_long_run_does_not_lose_steps_to_rounding():
    # In float32 a sum stops growing at 2**24 ones.
    statistics = Statistics(["a", "b"])
    statistics.load_state_dict(
        {
            "sums": torch.tensor([2.0**24] * 7, dtype=torch.float64),
            "left_out": torch.tensor(0),
        }
    )
    statistics.add(torch.tensor([[1.0, 0.0]]), torch.tensor([-1]))
    assert statistics.sums[:2].tolist() == [2**24 + 1] * 2
    fresh = Statistics(["a", "b"])
    fresh.add(torch.tensor([[1.0, 0.0]]), torch.tensor([-1]))
    assert fresh.sums.dtype == torch.float64
