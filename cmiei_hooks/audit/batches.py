"""What a batch of a loader holds: the arguments of the model, and labels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..call import Call, call_of_mapping
from ..errors import InputError

__all__ = ["Batch", "read_batch"]

_LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Batch:
    """One batch, on the device of the model."""

    given: Any
    """As the loader yields it."""
    call: Call
    label: Tensor | None
    """int ``[B]``."""


def read_batch(model: nn.Module, batch: Any, device: torch.device, *, checked: bool) -> Batch:
    """How the model is called with a batch, and the labels if it ends with them.

    Args:
        checked: whether the call must fit the signature of ``forward``. If not, a function of the
            user's makes the call, and nothing is known of labels.

    Raises:
        InputError: the model cannot be called with it.
    """
    given = _moved(batch, device)
    if not checked:
        return Batch(given, ((), {}), None)
    call, label = _split(model, given)
    _check_call(model, call)
    return Batch(given, call, label)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        items = [_moved(value, device) for value in batch]
        if hasattr(batch, "_make"):  # a named tuple
            return batch._make(items)
        return tuple(items) if isinstance(batch, tuple) else items
    return batch


def _split(model: nn.Module, batch: Any) -> tuple[Call, Tensor | None]:
    if isinstance(batch, Mapping):
        return call_of_mapping(model.forward, batch), None
    if not isinstance(batch, (tuple, list)):
        return ((batch,), {}), None
    label = batch[-1] if batch else None
    if len(batch) < 2 or not (
        isinstance(label, Tensor) and label.dim() == 1 and label.dtype in _LABELS
    ):
        return (tuple(batch), {}), None
    inputs = batch[:-1]
    if len(inputs) == 1 and isinstance(inputs[0], (tuple, list, Mapping)):  # ((a, b, c), label)
        return _split(model, inputs[0])[0], label
    return (tuple(inputs), {}), label


def _check_call(model: nn.Module, call: Call) -> None:
    args, kwargs = call
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        given = [type(a).__name__ for a in args]
        given += [f"{key}={type(value).__name__}" for key, value in kwargs.items()]
        raise InputError(
            "the model cannot be called with a batch of this loader",
            got=f"({', '.join(given)}): {error}",
            expected="the inputs of forward (a tensor, a tuple, or a dict), or these followed by "
            "an integer tensor [B] of labels",
            remedy="wrap the loader so that it yields these and nothing else, or say with "
            "forward= (--forward) how the model is called with a batch",
        ) from None
