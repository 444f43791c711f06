from __future__ import annotations

import math

import pytest
import torch

from cmiei_hooks.statistics import Statistics


def test_averages_count_every_sample_once():
    statistics = Statistics(["a", "b"])
    one = torch.tensor([[0.1, 0.4], [0.6, 0.2], [0.3, 0.1]])
    two = torch.tensor([[0.9, 0.8]])
    statistics.add(one, torch.tensor([1, -1, 0]))
    statistics.add(two, torch.tensor([-1]))
    assert statistics.metrics() == pytest.approx(
        {
            "C_MIEI_Ratio": 2 / 4,
            "CI_a": (0.1 + 0.6 + 0.3 + 0.9) / 4,
            "CI_b": (0.4 + 0.2 + 0.1 + 0.8) / 4,
            "Hist_a": 3 / 4,
            "Hist_b": 1 / 4,
        },
        abs=1e-7,
    )
    assert list(statistics.metrics()) == ["C_MIEI_Ratio", "CI_a", "CI_b", "Hist_a", "Hist_b"]


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


def test_a_long_epoch_does_not_lose_samples_to_rounding():
    # In float32 a sum stops growing at 2**24 ones.
    statistics = Statistics(["a", "b"])
    statistics.load_state_dict(
        {
            "sums": torch.tensor([2.0**24, 0, 0, 0, 2.0**24, 0], dtype=torch.float64),
            "left_out": torch.tensor(0),
        }
    )
    statistics.add(torch.tensor([[1.0, 0.0]]), torch.tensor([-1]))
    assert statistics.sums[0].item() == 2**24 + 1
