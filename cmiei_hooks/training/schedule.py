"""Steps and epochs: which calls are estimation steps, and whether they act."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..settings import Config

__all__ = ["AskEpoch", "Schedule", "whole"]

AskEpoch = Callable[[], Any]
"""Returns the number of the epoch, or None before the first one."""


@dataclass
class Schedule:
    """Counts training calls of the head from 0, and knows the epoch.

    The epoch is either told (``enter``) or asked for in each training call.
    """

    config: Config
    ask: AskEpoch | None = None
    step: int = 0
    epoch: int = field(init=False)
    epochs: int = field(init=False, default=0)
    """The number of epochs that were told or asked for so far."""
    needs_epochs: bool = field(init=False)
    """Whether the warm-up or the end is counted in epochs."""

    def __post_init__(self) -> None:
        c = self.config
        self.epoch = c.first_epoch
        self.needs_epochs = c.end_epoch is not None or (
            c.warmup_steps is None and c.warmup_epochs > 0
        )

    def advance(self) -> tuple[int, bool]:
        """Count one training call; return its number and whether it is an estimation step."""
        step, self.step = self.step, self.step + 1
        return step, step % self.config.k == 0

    def acts(self, step: int) -> bool:
        """Whether a step is after the warm-up and before the end."""
        c = self.config
        end = c.end_epoch is None or self.epoch < c.end_epoch
        return end and not self.in_warmup(step) and (c.end_step is None or step < c.end_step)

    def in_warmup(self, step: int) -> bool:
        """Whether a step is one of the first ``WARMUP_STEPS``, or of ``WARMUP_EPOCHS``."""
        c = self.config
        if c.warmup_steps is not None:
            return step < c.warmup_steps
        return self.epoch < c.first_epoch + c.warmup_epochs

    @property
    def in_steps(self) -> bool:
        """Whether everything is counted in steps, and nobody tells the epochs."""
        return self.config.warmup_steps is not None and not self.epochs

    @property
    def why_never(self) -> str:
        """Why no step has acted so far."""
        c = self.config
        if c.warmup_steps is not None:
            return f"all {self.step:,} steps were warm-up (WARMUP_STEPS {c.warmup_steps:,})"
        if not self.epochs:
            return "no epoch was ever told, so the warm-up never ended"
        if self.epochs == 1:
            return f"there was one epoch, and it was warm-up (WARMUP_EPOCHS {c.warmup_epochs})"
        return f"all {self.epochs} epochs were warm-up (WARMUP_EPOCHS {c.warmup_epochs})"

    @property
    def asked(self) -> int | None:
        """The epoch that the user's function returns now; None if there is none, or not yet.

        Raises:
            ConfigError: it is not a number >= 0.
        """
        value = None if self.ask is None else self.ask()
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise ConfigError(
                "epoch= does not return the number of an epoch",
                got=repr(value),
                expected="a number >= 0, or None before the first epoch",
                remedy="return the counter of the loop, such as lambda: trainer.current_epoch",
            )
        return math.floor(number)

    def enter(self, epoch: int) -> None:
        """Begin an epoch, or go on in it."""
        self.epochs += epoch != self.epoch or not self.epochs
        self.epoch = epoch


def whole(epoch: Any) -> int:
    """The number of an epoch; 1.0 counts as 1.

    Raises:
        ConfigError: it is not a whole number >= 0.
    """
    try:
        number = -1 if isinstance(epoch, bool) else operator.index(_unfloated(epoch))
    except TypeError:
        number = -1
    if number < 0:
        raise ConfigError(
            "the epoch is not a whole number",
            got=repr(epoch),
            expected="an integer >= 0",
            remedy="pass the counter of the loop, or int(epoch)",
        )
    return number


def _unfloated(number: Any) -> Any:
    """1.0 as 1; everything else as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number
