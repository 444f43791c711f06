"""The arms: what the runs of one seed differ in (nothing attached, C-MIEI, its settings, controls).

To add an arm, put it into ``arms_of``, and what it is compared with into ``COMPARISONS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import CMIEIError
from ..settings import Config

__all__ = [
    "COMPARISONS",
    "INERT",
    "PLAIN",
    "Arm",
    "Length",
    "arms_of",
    "refuse_settings",
    "sensitivity_of",
]

_NEVER = 10**9


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    kind: Literal["plain", "disabled", "attached", "random", "dropout"] = "attached"
    """Nothing attached; attached with ``ENABLED False``; attached; or one of the two controls."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of C-MIEI that override those of the user."""
    follows: str | None = None
    """The arm that a control follows: in every step it substitutes as many samples as that arm did
    with the same seed."""


PLAIN = Arm("plain", "plain")
INERT = Arm(
    "inert",
    settings={
        "warmup_epochs": Config.warmup_epochs,  # its default: it may not be set beside steps
        "warmup_steps": _NEVER,
        "end_epoch": None,
        "end_step": None,
    },
)


@dataclass(frozen=True)
class Length:
    """How long a training is, as the inert arm has seen it."""

    first_epoch: int
    """The number of its first epoch."""
    epochs: int
    """0 if nobody tells the epochs."""
    steps: int


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
"""The differences in the report: the first arm minus the second."""


def arms_of(config: Config, length: Length) -> list[Arm]:
    """The arms that run with every seed, without the plain and the inert one.

    Args:
        config: the user's settings. With an ``END_EPOCH`` or ``END_STEP`` there is an arm that
            never ends; without one there is an arm that stops after 70 % of the training. Both are
            counted in steps if the user counts in steps, or if nobody tells the epochs.
        length: of a training.
    """
    inert = INERT.settings
    arms = [
        Arm("method"),
        Arm("random", "random", inert, "method"),
        Arm("dropout", "dropout", inert, "method"),
    ]
    in_steps = config.warmup_steps is not None or config.end_step is not None or not length.epochs
    begin, whole = (0, length.steps) if in_steps else (length.first_epoch, length.epochs)
    stop, soon = (_end(in_steps, begin + round(share * whole)) for share in (0.7, 0.6))
    ends = {"end_epoch": config.end_epoch, "end_step": config.end_step}
    never = dict.fromkeys(ends)
    if ends != never:
        arms.append(Arm("never ending", settings=never))
        stop = ends
    if _can_act(config, stop):
        if ends == never:
            arms.append(Arm("stopped", settings=stop))
            arms.append(Arm("stopped random", "random", inert, "stopped"))
        if config.sample_level:
            arms.append(Arm("relative", settings={**stop, "relative": True}))
    warmup: dict[str, int | None] = {"warmup_epochs": 0, "warmup_steps": None}
    if in_steps:
        warmup = {"warmup_epochs": Config.warmup_epochs, "warmup_steps": 0}
    if config.sample_level and _can_act(config.override(**warmup, **never), soon):
        settings = {"relative": True, "k": 1, "p_max": 1.0, "rel_thr": 1.0}
        arms.append(Arm("strong", settings={**settings, **warmup, **soon}))
        arms.append(Arm("strong random", "random", inert, "strong"))
    return arms


def _end(in_steps: bool, end: int) -> dict[str, int | None]:
    """The settings that end the method at this step or epoch."""
    return {"end_epoch": None if in_steps else end, "end_step": end if in_steps else None}


def _can_act(config: Config, end: Mapping[str, int | None]) -> bool:
    """Whether the end comes after the warm-up; ``attach`` refuses an end before."""
    epoch, step = end["end_epoch"], end["end_step"]
    if step is not None:
        return step > (config.warmup_steps or 0)
    if epoch is None or config.warmup_steps is not None:
        return True
    return epoch > config.first_epoch + config.warmup_epochs


def sensitivity_of(config: Config) -> list[Arm]:
    """The method with one setting changed at a time."""
    excess = config.rel_thr - 1
    values = {
        "sigma": (0.02, 0.05, 0.1),
        "p_max": (0.2, 0.5),
        "abs_thr": (config.abs_thr / 2, config.abs_thr * 2),
        "rel_thr": (1 + excess / 2, max(1 + excess * 2, 0.0)),
    }
    return [
        Arm(f"{key.upper()} {value:g}", settings={key: value})
        for key, tried in values.items()
        for value in tried
        if value != getattr(config, key)
    ]


def refuse_settings(config: Config, arms: Iterable[Arm]) -> None:
    """Refuse an arm whose settings contradict those of the user, before it runs.

    Raises:
        ConfigError: its message names the arm.
    """
    for arm in arms:
        try:
            config.override(**arm.settings)
        except CMIEIError as error:
            raise error.at(f"arm {arm.name!r}") from None
