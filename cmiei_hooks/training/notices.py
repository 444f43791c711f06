"""What a user must know although training goes on: each is a warning, given once."""

from __future__ import annotations

import warnings
import weakref

from torch import nn
from torch.nn.parameter import is_lazy

from ..counterfactual import ChainCheck
from ..errors import CMIEIWarning
from ..fusion import Head, explain_silence
from .schedule import Schedule
from .statistics import Statistics

__all__ = ["Notices"]


class Notices:
    """Watches one attachment for training that does not do what the user thinks it does."""

    def __init__(self, model: nn.Module, head: Head) -> None:
        self._model, self._head = weakref.ref(model), head
        self._calls = self._calls_in_epoch = 0
        self._epoch_begun = False
        self._versions = _versions(model)
        self._given: set[str] = set()

    def called(self) -> None:
        """Count one training call of the head, a suspended one too."""
        self._calls += 1
        self._calls_in_epoch += 1

    def epoch_begins(self) -> None:
        """Note that the training loop announces its epochs."""
        self._epoch_begun = True

    def epoch_ends(self, statistics: Statistics, chain: ChainCheck) -> None:
        """Warn of an epoch in which the head was not called, or its chain could not be compared."""
        if self._epoch_begun and not self._calls_in_epoch:
            self._warn_of_silence()
        self.check_finite(statistics)
        self._check_chain(chain)
        self._calls_in_epoch = 0

    def training_ends(self, statistics: Statistics, chain: ChainCheck) -> None:
        """Warn if the model was trained and the head was never called."""
        model = self._model()
        trained = self._epoch_begun or (model is not None and _versions(model) != self._versions)
        if trained and not self._calls:
            self._warn_of_silence()
        self.check_finite(statistics)
        self._check_chain(chain)

    def check_epoch(self, schedule: Schedule) -> None:
        """Warn of a warm-up that never ends because nobody announces the epochs."""
        c = schedule.config
        if schedule.epoch_was_set or not (c.warmup_epochs or c.end_epoch is not None):
            return
        never = "the warm-up will never end" if c.warmup_epochs else "END_EPOCH will never come"
        self._warn(
            "epoch",
            f"handle.set_epoch(epoch) has not been called yet: without it {never}. Call it at "
            "the start of every epoch, or attach with warmup_epochs=0 and no end_epoch",
        )

    def check_finite(self, statistics: Statistics) -> None:
        """Warn of samples that were left out; waits for the device."""
        if "finite" not in self._given and (left_out := statistics.left_out):
            self._warn(
                "finite",
                f"{left_out} samples had NaN or infinite logits at the head "
                f"{self._head.name!r}; they are never substituted and are kept out of the averages",
            )

    def _check_chain(self, chain: ChainCheck) -> None:
        if chain.missing:
            first, last = self._head.names[0], self._head.names[-1]
            self._warn(
                "chain",
                f"the model called {first!r} without calling {last!r} after it, so the logits of "
                "the chain could not be compared with those of the model. Name a chain that the "
                "model runs through in training mode",
            )

    def _warn_of_silence(self) -> None:
        self._warn("called", explain_silence(self._head.names[0], self._head.first, self._model()))

    def _warn(self, about: str, message: str) -> None:
        if about not in self._given:
            self._given.add(about)
            warnings.warn(message, CMIEIWarning, stacklevel=2)


def _versions(model: nn.Module) -> int:
    """Return a number that changes when an optimizer has written into the parameters."""
    counted = [p for p in model.parameters() if not is_lazy(p) and not p.is_inference()]
    return sum(p._version for p in counted)
