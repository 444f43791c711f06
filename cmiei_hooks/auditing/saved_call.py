"""One call of the head, kept on the CPU, so that the head can be run on it again later."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from .._torch import in_autocast, is_weight_hook, pre_hooks
from ..fusion import Call, Captured, Head, call_tensors, mapped

__all__ = ["SavedCall", "save_call"]


@dataclass(frozen=True)
class SavedCall:
    """One call of the head, on the CPU."""

    call: Call
    batch: int
    """The number of the batch."""
    label: Tensor | None
    group: tuple[str, ...] | None
    fingerprint: Tensor | None
    """The fingerprint of what the model gets of each sample."""
    with_null: bool
    """Whether the null is measured on its samples."""
    devices: tuple[torch.device, ...] = ()
    """Where its tensors were; of a call that was read from a file, nowhere."""
    autocast: torch.dtype | None = None
    """The type to which autocast converted; None without autocast."""

    @property
    def size(self) -> int:
        """The number of bytes of its tensors."""
        return sum(x.numel() * x.element_size() for _, x in call_tensors(self.call))

    def restored(self, head: Head, device: torch.device) -> Captured:
        """The call with its tensors where they were, or on a device, ready to run the head again.

        Weights that torch's own pre-hooks compute (weight norm, pruning) are computed.
        """
        devices = iter(self.devices)
        args, kwargs = mapped(self.call, lambda x: x.to(next(devices, device)))
        for hook in pre_hooks(head.first):
            if is_weight_hook(hook.call):
                hook.call(head.first, args)
        return head.partition.read(args, kwargs)

    def running(self, device: torch.device) -> AbstractContextManager[object]:
        """Autocast as it was."""
        if not self.devices or (self.autocast is None and not in_autocast(device.type)):
            return contextlib.nullcontext()
        enabled = self.autocast is not None
        return torch.autocast(device.type, dtype=self.autocast, enabled=enabled)


def save_call(
    captured: Captured,
    *,
    batch: int,
    label: Tensor | None,
    group: tuple[str, ...] | None,
    fingerprint: Tensor | None,
    with_null: bool,
) -> SavedCall:
    """A copy of a call that is being made."""
    devices = tuple(x.device for _, x in call_tensors(captured.call))
    call = mapped(captured.call, lambda x: x.detach().cpu().clone())
    kind = captured.device.type
    dtype = _autocast_type(kind) if in_autocast(kind) else None
    return SavedCall(call, batch, label, group, fingerprint, with_null, devices, dtype)


def _autocast_type(device: str) -> torch.dtype:
    if hasattr(torch, "get_autocast_dtype"):  # since torch 2.4
        return torch.get_autocast_dtype(device)
    return torch.get_autocast_cpu_dtype() if device == "cpu" else torch.get_autocast_gpu_dtype()
