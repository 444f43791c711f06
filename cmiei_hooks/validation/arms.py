"""What the runs of one seed differ in: nothing attached, the method, its settings, controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..settings import Config

__all__ = ["COMPARISONS", "Arm", "arms_of", "sensitivity_of"]

_NEVER = 10**9


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    kind: Literal["plain", "disabled", "attached", "random", "dropout"] = "attached"
    """Nothing attached; ``ENABLED False``; attached; or a control."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of ``attach``; they win over those of the user."""

    follows: str | None = None
    """A control replaces, step by step, as many samples as this arm did with the same seed."""


COMPARISONS = (
    ("method", "plain"),
    ("method", "random"),
    ("method", "dropout"),
    ("method", "never ending"),
    ("never ending", "plain"),
    ("stopped", "plain"),
    ("stopped", "method"),
    ("stopped", "stopped random"),
    ("random", "plain"),
    ("dropout", "plain"),
    ("relative", "plain"),
    ("relative", "stopped"),
    ("strong", "plain"),
    ("strong", "strong random"),
)
"""The differences that are reported, first minus second."""


def arms_of(config: Config, begin: int, epochs: int) -> list[Arm]:
    """The runs of every seed besides the plain one.

    Args:
        config: the user's settings. If they have an ``END_EPOCH``, the arm to compare with never
            ends; else one stops at 70 % of the epochs.
        begin: the number of the first epoch of a training.
        epochs: how many there are.
    """
    inert = {"warmup_epochs": _NEVER, "end_epoch": None}
    arms = [
        Arm("inert", settings=inert),
        Arm("method"),
        Arm("random", "random", inert, "method"),
        Arm("dropout", "dropout", inert, "method"),
    ]
    stop, soon = (begin + round(share * epochs) for share in (0.7, 0.6))
    if config.end_epoch is not None:
        arms.append(Arm("never ending", settings={"end_epoch": None}))
        stop = config.end_epoch
    # (An attachment that would never act is refused.)
    if stop > config.first_epoch + config.warmup_epochs:
        if config.end_epoch is None:
            arms.append(Arm("stopped", settings={"end_epoch": stop}))
            arms.append(Arm("stopped random", "random", inert, "stopped"))
        if config.sample_level:
            arms.append(Arm("relative", settings={"end_epoch": stop, "relative": True}))
    if soon > config.first_epoch and config.sample_level:
        settings = {"relative": True, "k": 1, "p_max": 1.0, "rel_thr": 1.0, "warmup_epochs": 0}
        arms.append(Arm("strong", settings={**settings, "end_epoch": soon}))
        arms.append(Arm("strong random", "random", inert, "strong"))
    return arms


def sensitivity_of(config: Config) -> list[Arm]:
    """The method with one setting changed at a time."""
    excess = config.rel_thr - 1
    values = {
        "sigma": (0.02, 0.05, 0.1),
        "p_max": (0.2, 0.5),
        "abs_thr": (config.abs_thr / 2, config.abs_thr * 2),
        "rel_thr": (1 + excess / 2, 1 + excess * 2),
    }
    return [
        Arm(f"{key.upper()} {value:g}", settings={key: value})
        for key, tried in values.items()
        for value in tried
        if value != getattr(config, key)
    ]
