"""Step and epoch, warm-up and end: whether a call is an estimation step, and whether it acts."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..settings import Config

__all__ = ["Schedule"]


@dataclass
class Schedule:
    """Counts calls from 0 and epochs from ``FIRST_EPOCH``."""

    config: Config
    step: int = 0
    epoch: int = field(init=False)
    epoch_was_set: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.epoch = self.config.first_epoch

    def advance(self) -> tuple[int, bool]:
        """Count one training call; return its number and whether it is an estimation step."""
        step, self.step = self.step, self.step + 1
        return step, step % self.config.k == 0

    @property
    def acts(self) -> bool:
        """Whether this epoch is after the warm-up and before ``END_EPOCH``."""
        end = self.config.end_epoch
        return not self.in_warmup and (end is None or self.epoch < end)

    @property
    def in_warmup(self) -> bool:
        """Whether this epoch is one of the first ``WARMUP_EPOCHS``."""
        return self.epoch < self.config.first_epoch + self.config.warmup_epochs

    def set_epoch(self, epoch: int) -> bool:
        """Enter an epoch; return whether it differs from the one before.

        Raises:
            ConfigError: the epoch is not an integer >= 0.
        """
        try:
            number = -1 if isinstance(epoch, bool) else operator.index(epoch)
        except TypeError:
            number = -1
        if number < 0:
            raise ConfigError(
                "the epoch is not a number of an epoch",
                got=repr(epoch),
                expected="an integer >= 0",
                remedy="pass the loop's counter; int(epoch) if it is a whole float",
            )
        changed, self.epoch, self.epoch_was_set = number != self.epoch, number, True
        return changed
