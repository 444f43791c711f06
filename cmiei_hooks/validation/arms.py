"""The arms: what the runs of one seed differ in (nothing attached, C-MIEI, its settings, controls).

To add an arm, put it into ``arms_of``, and what it is compared with into ``COMPARISONS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import CMIEIError
from ..settings import Config

__all__ = ["COMPARISONS", "Arm", "arms_of", "refuse_settings", "sensitivity_of"]

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
    """The arm that a control follows: in every step it replaces as many samples as that arm did
    with the same seed."""


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


def arms_of(config: Config, begin: int, epochs: int) -> list[Arm]:
    """The arms that run with every seed, without the plain one.

    Args:
        config: the user's settings. With an ``END_EPOCH`` there is an arm that never ends; without
            one there is an arm that stops after 70 % of the epochs.
        begin: the number of the first epoch of a training.
        epochs: the number of epochs.
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
    # attach refuses an end before the warm-up is over.
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
