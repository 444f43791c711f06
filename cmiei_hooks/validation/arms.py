"""What the runs of one seed differ in: nothing attached, the method, its settings, controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..config import Config

__all__ = ["COMPARISONS", "Arm", "arms_of", "sensitivity_of"]

_NEVER = 10**9


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    kind: Literal["plain", "disabled", "attached", "random", "dropout"] = "attached"
    """Nothing attached; ``ENABLED False``; attached; or a control at the rate of ``method``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of ``attach``; they win over those of the user."""

    @property
    def follows(self) -> bool:
        """Whether it replaces, step by step, as many samples as ``method`` did."""
        return self.kind in ("random", "dropout")


COMPARISONS = (
    ("method", "plain"),
    ("method", "random"),
    ("method", "dropout"),
    ("stopped", "plain"),
    ("stopped", "method"),
    ("random", "plain"),
    ("dropout", "plain"),
)
"""The differences that are reported, first minus second."""


def arms_of(config: Config, epochs: int) -> list[Arm]:
    """The runs of every seed besides the plain one.

    Args:
        config: the user's settings.
        epochs: of a training, for the arm that stops at 70 % of them.
    """
    inert = {"warmup_epochs": _NEVER, "end_epoch": None}
    first = config.first_epoch + config.warmup_epochs
    stop = config.first_epoch + round(0.7 * epochs)
    return [
        Arm("inert", settings=inert),
        Arm("method"),
        *([Arm("stopped", settings={"end_epoch": stop})] if stop > first else []),
        Arm("random", "random", inert),
        Arm("dropout", "dropout", inert),
    ]


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
