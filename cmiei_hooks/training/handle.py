"""What ``attach`` returns: the handle of an attachment, and the inert one of a copy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.utils.hooks import RemovableHandle

from ..errors import ConfigError, StateError
from ..settings import Config
from .pre_hook import PreHook
from .state import load_state, save_state
from .statistics import metric_names
from .step import Measurement, Step

__all__ = ["Handle", "InertHandle"]


class Handle:
    """One attachment. Use it as a context manager, or call ``remove()`` at the end.

    ``attach`` makes it. A copy of it (``deepcopy``, pickle, ``torch.save`` of a model that holds
    it) is inert, as the copy of the hook is.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._pre_hook = PreHook(step)
        self._hook: RemovableHandle | None = step.head.first.register_forward_pre_hook(
            self._pre_hook, with_kwargs=True
        )

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._step.config

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the modalities."""
        return self._step.head.partition.names

    @property
    def step(self) -> int:
        """The number of training calls of the head so far, which is the number of the next one."""
        return self._step.schedule.step

    @property
    def epoch(self) -> int:
        """The epoch that was set last; ``FIRST_EPOCH`` before that."""
        return self._step.schedule.epoch

    @property
    def last(self) -> Measurement | None:
        """The newest estimate; None before the first."""
        return self._step.last

    def set_epoch(self, epoch: float) -> None:
        """Say which epoch begins, as with ``DistributedSampler.set_epoch``; it ends the warm-up.

        A new epoch begins a new average in ``metrics()``.

        Raises:
            ConfigError: the epoch is not a whole number >= 0, or this handle asks for the epoch
                itself (``attach(..., epoch=...)``).
        """
        if self._step.schedule.ask is not None:
            raise ConfigError(
                "this handle asks for the epoch itself",
                got=f"set_epoch({epoch!r}) after attach(..., epoch=...)",
                expected="one way to tell the epoch",
                remedy="leave out either set_epoch or epoch=",
            )
        self._step.begin_epoch(epoch)

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """``C_MIEI_Ratio, CI_<name>, ..., Hist_<name>, ...``, averaged over the estimation steps
        since the last epoch began; NaN before the first. Waits for the device.

        Args:
            reduce: average over all ranks, weighted by samples; every rank must then call it.
        """
        return self._step.metrics(reduce)

    @property
    def non_finite(self) -> int:
        """Samples left out so far because their logits were NaN or infinite. Waits for the
        device.
        """
        return self._step.journal.statistics.totals.left_out

    @property
    def skipped(self) -> int:
        """Estimates skipped so far because the batch lacked a modality."""
        return self._step.journal.skipped

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Inside, the hook passes everything through: no estimate, no substitution, no count."""
        before, self._step.suspended = self._step.suspended, True
        try:
            yield
        finally:
            self._step.suspended = before

    def same_step(self) -> AbstractContextManager[None]:
        """Inside, all calls of the head are one step: they share one decision and one noise.

        For training steps that call the head several times on the same samples: SAM, R-Drop, two
        views, closures of L-BFGS. The first call is estimated and decided upon as usual; the calls
        after it get the same substitution with the same noise, and are neither
        estimated nor counted. Leave the context after every training step.

        Raises:
            InputError: a later call has another number of samples.

        Example:
            >>> with handle.same_step():
            ...     loss = criterion(model(x), y) + consistency(model(x), model(x))
        """
        return self._step.same_step()

    def remove(self) -> None:
        """Remove the hook; the metrics stay readable. Calling it again does nothing."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            self._pre_hook.end()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *reason: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "attached to" if self._pre_hook.modules else "removed from"
        epoch = f"epoch {self.epoch}, " if self._step.schedule.epochs else ""
        return f"<Handle {state} {self._step.head.name!r}, {epoch}step {self.step}>"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain tensors, numbers and strings (``weights_only=True``)."""
        return save_state(self._step)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken: step, epoch, noise and averages.

        Raises:
            StateError: it is not such a state, or was taken with another head, names, splits or
                SEED. Nothing is changed then.
        """
        load_state(self._step, state)

    def __deepcopy__(self, memo: dict[int, Any]) -> InertHandle:
        return self._copy()

    def __reduce__(self) -> tuple[type[InertHandle], tuple[Config, tuple[str, ...], bool]]:
        return InertHandle, (self._copy().config, self.names, True)

    def _copy(self) -> InertHandle:
        return InertHandle(self.config.override(enabled=False), self.names, True)


class InertHandle(Handle):
    """A Handle that is attached to nothing: with ``ENABLED False``, or a copy of one."""

    def __init__(self, config: Config, names: tuple[str, ...], copied: bool = False) -> None:
        self._config, self._names, self._copied = config, names, copied

    config = property(lambda self: self._config, doc="The settings.")
    names = property(lambda self: self._names, doc="The names of the modalities.")
    step = property(lambda self: 0, doc="Always 0.")
    epoch = property(lambda self: self._config.first_epoch, doc="Always ``FIRST_EPOCH``.")
    last = property(lambda self: None, doc="Always None.")
    non_finite = property(lambda self: 0, doc="Always 0.")
    skipped = property(lambda self: 0, doc="Always 0.")

    def set_epoch(self, epoch: float) -> None:
        """Do nothing."""

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """Return NaN for every metric."""
        return dict.fromkeys(metric_names(self._names), math.nan)

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def same_step(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def remove(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "<InertHandle: ENABLED is False or this is a copy, nothing is attached>"

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state, so that checkpoints can be saved with ``ENABLED False`` too.

        Raises:
            StateError: this is a copy.
        """
        self._refuse_copy("saved")
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing: the training goes on without C-MIEI, whatever it was before.

        Raises:
            StateError: this is a copy.
        """
        self._refuse_copy("loaded")

    def _refuse_copy(self, verb: str) -> None:
        if self._copied:
            raise StateError(
                f"a copy of a handle has no state to be {verb}",
                got="a copied handle (deepcopy, pickle), which is attached to nothing",
                expected="the handle that attach returned",
                remedy="save and load the state of that handle",
            )
