from __future__ import annotations

import pytest

from cmiei_hooks import CMIEIError, Config
from cmiei_hooks.training.schedule import Schedule


def actions(schedule: Schedule, calls: int) -> str:
    """S: skipped; M: an estimation step; A: one that acts."""
    estimates = (schedule.advance()[1] for _ in range(calls))
    return "".join(("A" if schedule.acts else "M") if e else "S" for e in estimates)


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
    ],
)
def test_warm_up_and_end(settings, expected):
    schedule = Schedule(Config(k=1, **settings))
    seen = ""
    for epoch in range(8):
        schedule.set_epoch(epoch)
        seen += actions(schedule, 1)
    assert seen == expected


def test_steps_go_on_over_epochs():
    schedule = Schedule(Config(k=3))
    assert actions(schedule, 4) == "MSSM"
    schedule.set_epoch(1)
    assert actions(schedule, 4) == "SSMS"
    assert schedule.step == 8


def test_before_set_epoch_it_is_the_first_epoch():
    schedule = Schedule(Config(first_epoch=4))
    assert schedule.epoch == 4
    assert not schedule.epoch_was_set
    assert not schedule.set_epoch(4)
    assert schedule.epoch_was_set
    assert schedule.set_epoch(5)


@pytest.mark.parametrize("epoch", [-1, 1.0, "1", None, True])
def test_an_epoch_is_a_number(epoch):
    with pytest.raises(CMIEIError, match="integer"):
        Schedule(Config()).set_epoch(epoch)
