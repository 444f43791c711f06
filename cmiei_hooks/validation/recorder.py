"""What a training function gets in place of ``cmiei_hooks.attach``: it attaches and takes notes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ValidationError
from ..fusion import locate
from ..settings import Config
from ..training import Handle, InertHandle, Noise, Strategy, attach
from .arms import Arm
from .controls import Counting, Replacing

__all__ = ["Recorder"]


class Recorder:
    """Called as ``cmiei_hooks.attach`` is; the arm decides what that does.

    Args:
        arm: how this run is trained.
        settings: the user's settings, over those that the training function passes.
        counts: of a control, how many samples the run that it follows replaced in each call.
        seed: of what a control draws.
    """

    def __init__(
        self, arm: Arm, settings: Mapping[str, Any], counts: Sequence[int] = (), seed: int = 0
    ) -> None:
        self.arm, self.settings, self.seed = arm, settings, seed
        self.counts = list(counts)
        """Samples replaced in each training-mode call of the head; of other runs, as they come."""
        self.epochs: list[dict[str, float]] = []
        """For each epoch its number and the figures of ``Handle.metrics``."""
        self.config: Config | None = None
        """In force; None before the call."""
        self._model: nn.Module | None = None
        self._handle: Handle | None = None

    def __call__(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """As ``cmiei_hooks.attach``; the logger is left out.

        Raises:
            ValidationError: it is the second call.
        """
        if self._model is not None:
            raise ValidationError(
                "the training function attaches twice",
                got="a second call of attach",
                expected="one head in one training",
                remedy="call attach once for each call of the training function",
            )
        self._model = model
        settings = {**kwargs, **self.settings, **self.arm.settings, "log": False}
        settings["enabled"] = self.arm.kind not in ("plain", "disabled")
        if self.arm.kind == "plain":
            self._handle = _never_attached(model, *args, **settings)
        else:
            self._handle = attach(model, *args, strategy=self._strategy, **settings)
        self.config = self._handle.config
        return _Noted(self._handle, self)

    def _strategy(self, config: Config, noise: Noise) -> Strategy:
        if self.arm.follows:
            return Replacing(config, self.counts, self.arm.kind, self.seed)
        return Counting(config, noise, self.counts)

    def note(self) -> None:
        """End an epoch: keep its figures."""
        if self._handle is not None and self.epochs and self._handle.config.enabled:
            self.epochs[-1].update(self._handle.metrics())

    def begin(self, epoch: int) -> None:
        """Begin another epoch."""
        if not self.epochs or self.epochs[-1]["epoch"] != epoch:
            self.note()
            self.epochs.append({"epoch": epoch})

    def digest(self) -> str:
        """Of all weights and buffers, and of the state of torch's generator.

        Raises:
            ValidationError: nothing was ever attached.
        """
        if self._model is None:
            raise ValidationError(
                "the training function never called attach",
                got="no call",
                expected="attach(model, head=..., splits=...), as cmiei_hooks.attach",
                remedy="use the attach that is its first argument",
            )
        digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
        for name, value in self._model.state_dict().items():
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                whole = value.detach().cpu().contiguous().reshape(-1)
                digest.update(whole.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class _Noted:
    """A Handle whose epochs are noted; everything else is the Handle's."""

    def __init__(self, handle: Handle, recorder: Recorder) -> None:
        self._handle, self._recorder = handle, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def set_epoch(self, epoch: int) -> None:
        self._recorder.begin(epoch)
        self._handle.set_epoch(epoch)

    def __enter__(self) -> _Noted:
        return self

    def __exit__(self, *reason: object) -> None:
        self._handle.remove()


def _never_attached(
    model: nn.Module,
    head: Any = None,
    splits: Any = None,
    *,
    names: Any = None,
    modalities: Any = None,
    dim: int = -1,
    output: Any = None,
    config: Any = None,
    log: bool = False,
    **settings: Any,
) -> Handle:
    """An inert Handle that has never seen the model. What ``attach`` would refuse is refused."""
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    return InertHandle(resolved, where.partition.names)
