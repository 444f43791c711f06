"""What the Trainer of transformers tells no callback: who it is, and when a step failed."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from transformers import Trainer

from ..errors import CMIEIError, StateError
from .lifecycle import Lifecycle

__all__ = ["Asked", "guard_steps", "newest", "running_trainer"]

T = TypeVar("T")

_guarded: WeakSet[Trainer] = WeakSet()


class Asked(WeakValueDictionary[str, T]):
    """For each head, the callback that was asked for its state last.

    A Trainer asks its callbacks for their states before it makes those of a checkpoint anew.
    """

    def __getitem__(self, head: str) -> T:
        if head in self:
            return super().__getitem__(head)
        raise StateError(
            "the checkpoint has the state of a callback that this Trainer does not have",
            got=f"the head {head!r}",
            expected="the callbacks of the saved training",
            remedy="add it, or set restore_callback_states_from_checkpoint=False",
        )


def newest(state: Any, kind: str) -> dict[str, dict[str, Any]]:
    """The newest state of each head in that of a Trainer, which forgets the others.

    The Trainer itself appends the states of several callbacks to those that it saved before.
    """
    entries = state.stateful_callbacks.get(kind, [])
    entries = entries if isinstance(entries, list) else [entries]
    newest = {entry["args"]["again"]: entry for entry in entries}
    state.stateful_callbacks[kind] = list(newest.values())
    return {head: entry["handle"] for head, entry in newest.items()}


def running_trainer() -> Trainer:
    """The Trainer that is calling its callbacks now.

    Raises:
        CMIEIError: what calls is not a Trainer.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return trainer
        frame = frame.f_back
    raise CMIEIError(
        "the callback can be used in a Trainer only",
        got="a training loop that is not transformers.Trainer, nor a class derived from it",
        expected="trainer.add_callback(CMIEICallback(...)) and trainer.train()",
        remedy="in a loop of your own, call attach(), set_epoch() and remove()",
    )


def guard_steps(trainer: Trainer) -> None:
    """Let attachments act inside of ``trainer.training_step`` alone, and end if it fails.

    A Trainer is guarded once, and stays guarded: without attachments, nothing is done.
    """
    if trainer in _guarded:
        return
    _guarded.add(trainer)
    step = trainer.training_step

    @functools.wraps(step)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for lifecycle in Lifecycle.of(trainer.callback_handler.callbacks):
                stack.enter_context(lifecycle.step())
            return step(*args, **kwargs)

    trainer.training_step = training_step
