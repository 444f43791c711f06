from __future__ import annotations

import pytest
import torch

from cmiei_hooks import CMIEIError, Config
from cmiei_hooks.training.schedule import Schedule, whole


def actions(schedule: Schedule, calls: int) -> str:
    """S: skipped; M: an estimation step; A: one that acts."""
    steps = (schedule.advance() for _ in range(calls))
    return "".join(
        ("A" if schedule.acts(s) else "M") if estimates else "S" for s, estimates in steps
    )


def test_every_kth_call_is_an_estimation_step_beginning_with_the_first():
    assert actions(Schedule(Config(k=3)), 8) == "MSSMSSMS"
    assert actions(Schedule(Config(k=1, warmup_epochs=0)), 3) == "AAA"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup_epochs": 2}, "MMAAAAAA"),
        ({"warmup_epochs": 0}, "AAAAAAAA"),
        ({"warmup_epochs": 2, "first_epoch": 1}, "MMMAAAAA"),  # epochs 1 and 2; 0 is before them
        ({"warmup_epochs": 2, "end_epoch": 5}, "MMAAAMMM"),
        ({"warmup_epochs": 1, "first_epoch": 1, "end_epoch": 3}, "MMAMMMMM"),
        ({"warmup_steps": 3}, "MMMAAAAA"),
        ({"warmup_steps": 0}, "AAAAAAAA"),
        ({"warmup_steps": 3, "end_step": 5}, "MMMAAMMM"),
        ({"warmup_steps": 3, "end_epoch": 6}, "MMMAAAMM"),
        ({"warmup_epochs": 2, "end_step": 6}, "MMAAAAMM"),
    ],
)
def test_warm_up_and_end(settings, expected):
    schedule = Schedule(Config(k=1, **settings))
    seen = ""
    for epoch in range(8):
        schedule.enter(epoch)
        seen += actions(schedule, 1)
    assert seen == expected


def test_steps_go_on_over_epochs():
    schedule = Schedule(Config(k=3))
    assert actions(schedule, 4) == "MSSM"
    schedule.enter(1)
    assert actions(schedule, 4) == "SSMS"
    assert schedule.step == 8


def test_before_the_first_epoch_is_told_it_is_first_epoch():
    schedule = Schedule(Config(first_epoch=4))
    assert (schedule.epoch, schedule.epochs) == (4, 0)
    schedule.enter(4)
    assert (schedule.epoch, schedule.epochs) == (4, 1)
    schedule.enter(4)
    schedule.enter(5)
    assert (schedule.epoch, schedule.epochs) == (5, 2)


@pytest.mark.parametrize("epoch", [3, 3.0, torch.tensor(3)])
def test_a_whole_number_is_the_number_of_an_epoch(epoch):
    assert whole(epoch) == 3


@pytest.mark.parametrize("epoch", [-1, 1.5, "1", None, True, float("nan")])
def test_other_values_are_refused(epoch, golden):
    with pytest.raises(CMIEIError) as error:
        whole(epoch)
    golden(error.value)


@pytest.mark.parametrize(
    ("returned", "epoch"), [(None, None), (0, 0), (2.75, 2), (torch.tensor(4), 4), (3.0, 3)]
)
def test_what_a_function_returns_is_rounded_down(returned, epoch):
    assert Schedule(Config(), lambda: returned).asked == epoch


@pytest.mark.parametrize("returned", [-1, "3", True, float("nan"), float("inf"), [1]])
def test_what_is_no_number_of_an_epoch_is_refused(returned, golden):
    with pytest.raises(CMIEIError) as error:
        Schedule(Config(), lambda: returned).asked  # noqa: B018  # a property that raises
    golden(error.value)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, True),
        ({"warmup_epochs": 0}, False),
        ({"warmup_epochs": 0, "end_epoch": 3}, True),
        ({"warmup_steps": 10}, False),
        ({"warmup_steps": 10, "end_epoch": 3}, True),
    ],
)
def test_whether_epochs_must_be_told(settings, needed):
    assert Schedule(Config(**settings)).needs_epochs == needed
