"""When the arms of one training begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..reporting import counted
from ..settings import ENDS, Config

__all__ = ["NEVER", "Length", "Times", "can_act"]

NEVER = 10**9


@dataclass(frozen=True)
class Length:
    """How long a training is, as the inert arm has seen it."""

    first_epoch: int
    """The number of its first epoch."""
    epochs: int
    """0 if nobody tells the epochs."""
    steps: int


class Times:
    """The settings by which the arms of one training begin and end."""

    def __init__(self, config: Config, length: Length) -> None:
        steps = config.warmup_steps is not None or config.end_step is not None
        self._config, self._in_steps = config, steps or not length.epochs
        self._begin = 0 if self._in_steps else length.first_epoch
        self._whole = length.steps if self._in_steps else length.epochs
        self.never = end_at(True, NEVER if config.preset in ENDS else None)
        self.at_once: dict[str, int | None] = {"warmup_epochs": 0, "warmup_steps": None}
        if self._in_steps:  # epochs may not be set beside steps
            self.at_once = {"warmup_epochs": Config.warmup_epochs, "warmup_steps": 0}

    def until(self, share: float) -> dict[str, int | None]:
        """An end after this share of the training."""
        return end_at(self._in_steps, self._begin + round(share * self._whole))

    @property
    def whole(self) -> str:
        """The length of the training in words."""
        return counted(self._whole, "step" if self._in_steps else "epoch")

    def can_act(self, share: float) -> bool:
        """Whether an arm without a warm-up can act until this share of the training."""
        return can_act(self._config.override(**self.at_once, **self.never), self.until(share))


def end_at(in_steps: bool, end: int | None) -> dict[str, int | None]:
    """The settings that end the method at this step or epoch."""
    return {"end_epoch": None if in_steps else end, "end_step": end if in_steps else None}


def can_act(config: Config, end: Mapping[str, int | None]) -> bool:
    """Whether the end comes after the warm-up; ``attach`` refuses an end before."""
    epoch, step = end["end_epoch"], end["end_step"]
    if step is not None:
        return step > (config.warmup_steps or 0)
    if epoch is None or config.warmup_steps is not None:
        return True
    return epoch > config.first_epoch + config.warmup_epochs
