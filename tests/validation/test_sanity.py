"""The checks see what they are for."""

from __future__ import annotations

import dataclasses
import math

import pytest

import cmiei_hooks
from cmiei_hooks.validation.sanity import baseline, sanity
from cmiei_hooks.validation.worker import Record


def record(**epoch: float) -> dict[int, Record]:
    first = {"epoch": 0, "step": 0, "C_MIEI_Ratio": 0.0, "Hist_r": 0.5, "Hist_n": 0.5}
    epochs = [first, {**first, "epoch": 5, "step": 3, "C_MIEI_Ratio": 0.3, **epoch}]
    return {0: Record("", {"accuracy": 1.0}, epochs, [0] * 6, {}, "")}


@pytest.mark.parametrize(
    ("epoch", "fails"),
    [
        ({}, []),
        ({"epoch": 4}, [0, 1]),  # acted in the warm-up, and never behind it
        ({"C_MIEI_Ratio": 0.0}, [1]),
        ({"Hist_r": 0.7}, [3]),
        ({"C_MIEI_Ratio": math.nan}, [1]),
    ],
)
def test_the_sanity_checks_see_what_they_are_for(epoch, fails):
    checks = sanity(record(**epoch), cmiei_hooks.Config(enabled=True))
    assert [i for i, check in enumerate(checks) if not check.ok] == fails


def test_one_seed_that_never_acts_is_seen():
    both = {**record(), 1: record(C_MIEI_Ratio=0.0)[0]}
    checks = sanity(both, cmiei_hooks.Config(enabled=True))
    assert [check.ok for check in checks] == [True, False, True, True]


def test_epochs_that_do_not_begin_at_first_epoch_are_seen():
    checks = sanity(record(), cmiei_hooks.Config(enabled=True, first_epoch=1, warmup_epochs=2))
    assert not {check.name: check.ok for check in checks}["epochs begin at FIRST_EPOCH"]


@pytest.mark.parametrize(
    ("settings", "ratios", "fails"),
    [
        ({"warmup_steps": 4}, [0, 0.2, 0.3], []),
        ({"warmup_steps": 4, "end_step": 6}, [0, 0.2, 0], []),
        ({"warmup_steps": 3, "end_step": 5}, [0, 0.2, 0], []),
        ({"warmup_steps": 4}, [0.1, 0.2, 0.3], [0]),
        ({"warmup_steps": 4, "end_step": 6}, [0, 0.2, 0.3], [0]),
        ({"warmup_steps": 4}, [0, 0.2, 0], [1]),
        ({"warmup_epochs": 0, "end_step": 5}, [0.1, 0.2, 0], []),
    ],
)
def test_windows_of_steps_are_still_or_act(settings, ratios, fails):
    """Windows of steps 0-2, 3-5 and 6-8; the one in which the warm-up ends is neither."""
    shares = {"Hist_r": 0.5, "Hist_n": 0.25}  # a quarter of the samples has no influence
    epochs = [{"step": 3 * i, "C_MIEI_Ratio": r, **shares} for i, r in enumerate(ratios)]
    records = {0: Record("", {"accuracy": 1.0}, epochs, [0] * 9, {}, "")}
    checks = sanity(records, cmiei_hooks.Config(enabled=True, **settings))
    assert [i for i, check in enumerate(checks) if not check.ok] == fails
    assert len(checks) == 3  # nothing is said of FIRST_EPOCH


def test_equal_runs_are_equal_also_where_a_metric_is_nan(golden):
    nan = {0: dataclasses.replace(record()[0], metrics={"accuracy": math.nan})}
    check = baseline("inert", nan, nan)
    assert check.ok
    golden(f"{check.name}: {check.found}")


@pytest.mark.negative_control
@pytest.mark.parametrize("change", [{"digest": "other"}, {"metrics": {"accuracy": 0.9}}])
def test_a_run_with_other_weights_or_metrics_is_seen(change, golden):
    check = baseline("inert", record(), {0: dataclasses.replace(record()[0], **change)})
    assert not check.ok
    golden(f"{check.name}: {check.found}")
