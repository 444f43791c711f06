"""What a training function gets as ``attach``: it attaches what the arm says, and records."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ValidationError
from ..logs import LogRecord
from ..settings import Config
from ..training import (
    Handle,
    InertHandle,
    Measurement,
    Noise,
    Schedule,
    Strategy,
    attach,
    strategy_of,
)
from .arms import Arm
from .controls import Counting, Dropout, Random
from .peers import make_peer

__all__ = ["Recorder"]

_CONTROLS = {"random": Random, "dropout": Dropout}
_UNATTACHED = ("plain", "disabled")


class Recorder:
    """Called like ``cmiei_hooks.attach``; the arm decides what it attaches.

    Args:
        arm: how this run is trained.
        settings: the user's settings, which override those that the training function passes.
        counts: for a control, the number of samples to substitute in each step.
        seed: decides what a control substitutes.
    """

    def __init__(
        self, arm: Arm, settings: Mapping[str, Any], counts: Sequence[int] = (), seed: int = 0
    ) -> None:
        self.arm, self.settings, self.seed = arm, settings, seed
        self.counts = list(counts)
        """The number of samples substituted in each training call of the head."""
        self.epochs: list[dict[str, float]] = []
        """For each epoch its number, its first step and the values of ``Handle.metrics``. If the
        warm-up is counted in steps and nobody tells the epochs, the entries are windows of
        ``LOG_PERIOD`` steps instead.
        """
        self._model: nn.Module | None = None
        self._handle: Handle | None = None
        self._told = self._asks = False
        """Whether an epoch was told; whether the handle asks for it."""
        self._next_window = 0
        self._in_window: Measurement | None = None
        """The newest estimate of the window that ended last."""

    def __call__(
        self, model: nn.Module, head: Any = None, splits: Any = None, **arguments: Any
    ) -> Any:
        """Attach as ``cmiei_hooks.attach`` does, without a logger.

        Raises:
            ValidationError: it is the second call.
            CMIEIError: ``attach`` refuses the arguments.
        """
        if self._model is not None:
            raise ValidationError(
                "the training function attaches twice",
                got="a second call of attach",
                expected="one head in one training",
                remedy="call attach once in each call of the training function",
            )
        usual = arguments.pop("strategy", strategy_of)
        make = make_peer(self.arm.strategy, self.arm.options) if self.arm.strategy else usual

        def strategy(config: Config, noise: Noise) -> Strategy:
            if self.arm.kind in _CONTROLS:
                return _CONTROLS[self.arm.kind](config, self.counts, self.seed)
            return Counting(make(config, noise), self.counts)

        given = {"head": head, "splits": splits, **arguments, **self.settings, **self.arm.settings}
        given |= {"log": self._log, "strategy": strategy, "enabled": self.arm.kind != "disabled"}
        if callable(arguments.get("epoch")):
            given["epoch"] = self._noted(arguments["epoch"])
        handle = attach(model, **given)
        if self.arm.kind == "plain":  # attached only to refuse now whatever another arm would
            handle.remove()
            handle = InertHandle(handle.config, handle.names)
        self._model, self._handle = model, handle
        return _Noted(handle, self)

    @property
    def config(self) -> Config:
        """The settings in force.

        Raises:
            ValidationError: attach was never called.
        """
        return self._attached()[1].config

    def begin(self, epoch: object) -> None:
        """Note that an epoch begins, before the handle begins a new average.

        What is not a number is left to the handle, which refuses it.
        """
        with contextlib.suppress(TypeError, ValueError, ArithmeticError, RuntimeError):
            number = math.floor(float(epoch))  # type: ignore[arg-type]  # errors are caught
            if not self._told or self.epochs[-1]["epoch"] != number:
                self._end_epoch()
                self.epochs.append({"epoch": number, "step": self._attached()[1].step})
                self._told = True

    def _noted(self, ask: Callable[[], Any]) -> Callable[[], Any]:
        """The user's ``epoch=``, whose answers are noted."""
        self._asks = True

        def asked() -> Any:
            epoch = ask()
            if epoch is not None:
                self.begin(epoch)
            return epoch

        return asked

    def _log(self, record: LogRecord) -> None:
        """Note a window of steps; after its log line the average begins anew."""
        handle = self._handle
        if handle is None or record.event != "figures" or self._told:
            return
        if handle.config.warmup_steps is not None:
            self.epochs.append({"step": self._next_window, **record.metrics})
            self._next_window, self._in_window = record.step + 1, handle.last

    def finish(self) -> None:
        """Note that the training is over.

        Raises:
            ValidationError: attach was never called, or no epoch was told and the settings count in
                epochs.
        """
        config = self._attached()[1].config
        # Nothing calls the function in a training to which nothing is attached.
        asked = self._asks and self.arm.kind in _UNATTACHED
        if not self._told and not asked and Schedule(config).needs_epochs:
            raise ValidationError(
                "the training function never called set_epoch",
                got="no epoch",
                expected="handle.set_epoch(epoch) at the start of every epoch, or "
                "attach(..., epoch=lambda: <the epoch>)",
                remedy="call it: without it the warm-up would never end; or count the warm-up in "
                "steps: attach(..., warmup_steps=1000)",
            )
        self._end_epoch()
        if not self.epochs:  # it is one epoch, of which nothing was seen
            self.epochs.append({"step": 0})

    def digest(self) -> str:
        """A digest of all weights and buffers, and of the state of torch's generator.

        Raises:
            ValidationError: attach was never called.
        """
        digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
        for name, value in self._attached()[0].state_dict().items():
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                whole = value.detach().cpu().contiguous().reshape(-1)
                digest.update(whole.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _end_epoch(self) -> None:
        """Note the averages of the epoch, or of the window, that ends."""
        handle = self._attached()[1]
        if self.arm.kind in _UNATTACHED:
            return
        if self._told:
            self.epochs[-1].update(handle.metrics())
        elif handle.last is not self._in_window:
            self.epochs.append({"step": self._next_window, **handle.metrics()})

    def _attached(self) -> tuple[nn.Module, Handle]:
        if self._model is None or self._handle is None:
            raise ValidationError(
                "the training function never called attach",
                got="no call",
                expected="attach(model, head=..., splits=...), as cmiei_hooks.attach",
                remedy="call the attach that the function gets as its first argument",
            )
        return self._model, self._handle


class _Noted:
    """A Handle whose epochs are noted. A copy of it is inert, as that of a Handle is."""

    def __init__(self, handle: Handle, recorder: Recorder) -> None:
        self._handle, self._recorder = handle, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def set_epoch(self, epoch: float) -> None:
        self._recorder.begin(epoch)  # first: a new epoch begins a new average of the handle
        self._handle.set_epoch(epoch)

    def __enter__(self) -> _Noted:
        return self

    def __exit__(self, *reason: object) -> None:
        self._handle.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> InertHandle:
        return InertHandle(self._handle.config, self._handle.names, True)

    def __reduce__(self) -> tuple[type[InertHandle], tuple[Config, tuple[str, ...], bool]]:
        return InertHandle, (self._handle.config, self._handle.names, True)
