"""What the callback for transformers guards against, each with its negative control."""

from __future__ import annotations

import contextlib
import weakref

import pytest
import torch
from tiny_trainer import CMIEICallback, FailingStep, Task, callback, failing_metrics, trainer
from torch import nn

from cmiei_hooks.errors import HeadError


def step_fails(tmp_path) -> tuple[nn.Module, CMIEICallback]:
    one = callback(k=1)
    training = trainer(tmp_path, one, kind=FailingStep)
    with pytest.raises(RuntimeError, match="out of luck"):
        training.train()
    return training.model, one


def evaluation_fails(tmp_path) -> tuple[nn.Module, CMIEICallback]:
    one, model = callback(k=1), Task()
    failing = {"eval_strategy": "steps", "eval_steps": 3, "metrics": failing_metrics}
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, one, model=model, **failing).train()
    return model, one


def another_trains(tmp_path) -> tuple[nn.Module, CMIEICallback]:
    model, one = evaluation_fails(tmp_path)
    with contextlib.suppress(HeadError):  # of a hook that is there already
        trainer(tmp_path, callback(), model=model).train()
    return model, one


def stays(model: nn.Module, one: CMIEICallback) -> bool:
    """Whether a hook is on the head."""
    return bool(model.classifier._forward_pre_hooks)


def measures(model: nn.Module, one: CMIEICallback) -> bool:
    """Whether a training of the user's own would be measured."""
    step = one.handle.step
    model.train()(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    return one.handle.step > step


@contextlib.contextmanager
def step_without_end(lifecycle):
    lifecycle.act()
    try:
        yield
    finally:
        lifecycle.pause()


class Unseen(weakref.WeakSet):
    """Has its members, but does not show them."""

    def __iter__(self):
        return iter(())


LIFECYCLE = "cmiei_hooks.integrations.lifecycle"
GUARDS = {
    "a failing step ends": (step_fails, stays, f"{LIFECYCLE}.Lifecycle.step", step_without_end),
    "a hook that stays is paused": (
        evaluation_fails,
        measures,
        f"{LIFECYCLE}.Lifecycle.pause",
        lambda lifecycle: lifecycle._pause.close(),
    ),
    "an earlier Trainer's is taken off": (
        another_trains,
        stays,
        f"{LIFECYCLE}._attached",
        Unseen(),
    ),
}
"""The training; what is wrong after it; the guard; what takes its place in the negative control."""


@pytest.mark.parametrize(("training", "wrong", "guard", "instead"), GUARDS.values(), ids=GUARDS)
def test_with_all_guards_a_failure_leaves_nothing_that_acts(
    tmp_path, training, wrong, guard, instead
):
    assert not wrong(*training(tmp_path))


@pytest.mark.negative_control
@pytest.mark.parametrize(("training", "wrong", "guard", "instead"), GUARDS.values(), ids=GUARDS)
def test_without_the_guard_something_is_left(
    tmp_path, monkeypatch, training, wrong, guard, instead
):
    monkeypatch.setattr(guard, instead)
    assert wrong(*training(tmp_path))
