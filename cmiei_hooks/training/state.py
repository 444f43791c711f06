"""The state of an attachment that a resumed run needs, and the checks when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import StateError
from .step import Step

__all__ = ["load_state", "save_state"]

_VERSION = 4


def save_state(running: Step) -> dict[str, Any]:
    """Step, epoch, seed and sums: plain tensors, numbers and strings."""
    modalities = len(running.head.partition.names)
    usual: Tensor | None = getattr(running.strategy, "usual_influence", None)
    usual = torch.zeros(modalities) if usual is None else usual
    return {
        "version": _VERSION,
        "head": running.head.name,
        "names": list(running.head.partition.names),
        "splits": running.head.partition.plain,
        "seed": running.noise.seed,
        "step": running.schedule.step,
        "epoch": running.schedule.epoch,
        "epochs": running.schedule.epochs,
        "next_log_step": running.journal.reporter.next_step,
        "window_ended": running.journal.window_ended,
        "skipped": running.journal.skipped,
        "usual_influence": usual.cpu().double(),
        **running.journal.statistics.state_dict(),
    }


def load_state(running: Step, state: Mapping[str, Any]) -> None:
    """Go on where the state was saved.

    Raises:
        StateError: it is not the state of a handle, or that of another attachment. Nothing is
            changed then.
    """
    mine = save_state(running)
    if isinstance(state, Mapping) and not state:
        raise StateError(
            "the state was saved by a training with ENABLED False",
            got="an empty state",
            expected="the state of an attachment with ENABLED True",
            remedy="resume with ENABLED False, or load everything but this state",
        )
    if wrong := _unlike(mine, state):
        raise StateError(
            "this is not the state of a handle",
            got="; ".join(wrong),
            expected="what Handle.state_dict() returned: " + ", ".join(mine),
            remedy="pass that, unchanged",
        )
    fixed = ["version", "head", "names", "splits"]
    fixed += [] if running.config.seed is None else ["seed"]
    other = [key for key in fixed if mine[key] != state[key]]
    if other:
        raise StateError(
            "the state belongs to another attachment",
            got="; ".join(f"{key} {state[key]!r}" for key in other),
            expected="; ".join(f"{key} {mine[key]!r}" for key in other),
            remedy="attach as it was when the state was saved",
        )
    schedule = running.schedule
    schedule.step, schedule.epoch = state["step"], state["epoch"]
    schedule.epochs = state["epochs"]
    running.noise.seed, running.journal.reporter.next_step = state["seed"], state["next_log_step"]
    sums: dict[str, Tensor] = {key: state[key] for key in ("sums", "totals")}
    running.journal.window_ended = state["window_ended"]
    running.journal.skipped = state["skipped"]
    running.journal.statistics.load_state_dict(sums)
    usual: Tensor = state["usual_influence"]
    if hasattr(running.strategy, "usual_influence"):
        running.strategy.usual_influence = usual.clone() if bool(usual.any()) else None
    if running.journal.statistics.totals.estimates:
        running.presence.all_were_there()


def _unlike(mine: Mapping[str, Any], state: object) -> list[str]:
    """What a state lacks, or holds in another type or shape than ``mine``."""
    if not isinstance(state, Mapping):
        return [type(state).__name__]
    wrong = [f"no {key}" for key in mine if key not in state]
    for key in mine.keys() & state.keys():
        own, other = mine[key], state[key]
        if type(own) is not type(other) or (isinstance(own, int) and other < 0):
            wrong.append(f"{key} {other!r}")
        elif isinstance(own, Tensor) and own.shape != other.shape:
            wrong.append(f"{key} of shape {list(other.shape)}")
        elif isinstance(own, Tensor) and not bool(other.isfinite().all()):
            wrong.append(f"{key} not finite")
    return sorted(wrong)
