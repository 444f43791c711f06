"""Step and epoch, warm-up and end: what is to happen in this call."""

from __future__ import annotations

import enum
import operator
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..settings import Config

__all__ = ["Action", "Schedule"]


class Action(enum.Enum):
    """What one training-mode call of the head does."""

    SKIP = enum.auto()
    MEASURE = enum.auto()
    INTERVENE = enum.auto()


@dataclass
class Schedule:
    """Counts calls from 0 and epochs from ``FIRST_EPOCH``."""

    config: Config
    step: int = 0
    epoch: int = field(init=False)
    epoch_was_set: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.epoch = self.config.first_epoch

    def advance(self) -> Action:
        """Count one training-mode call and say what it does."""
        step, self.step = self.step, self.step + 1
        if step % self.config.k:
            return Action.SKIP
        return Action.INTERVENE if self.intervenes else Action.MEASURE

    @property
    def intervenes(self) -> bool:
        """Whether this epoch is after the warm-up and before ``END_EPOCH``."""
        end = self.config.end_epoch
        return not self.in_warmup and (end is None or self.epoch < end)

    @property
    def in_warmup(self) -> bool:
        """Whether this epoch is one of the first ``WARMUP_EPOCHS``."""
        return self.epoch < self.config.first_epoch + self.config.warmup_epochs

    def set_epoch(self, epoch: int) -> bool:
        """Enter an epoch; returns whether it is another one than before.

        Raises:
            ConfigError: the epoch is not an integer >= 0.
        """
        try:
            number = -1 if isinstance(epoch, bool) else operator.index(epoch)
        except TypeError:
            number = -1
        if number < 0:
            raise ConfigError("epochs are counted", got=repr(epoch), expected="an integer >= 0")
        changed, self.epoch, self.epoch_was_set = number != self.epoch, number, True
        return changed
