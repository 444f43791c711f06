"""What a batch of a loader holds: the arguments of the model, labels and groups."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, did_you_mean
from ..fusion import Call, call_of_mapping

__all__ = ["Batch", "Columns", "read_batch"]

_LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Columns:
    """Where in a batch the labels and the groups are: an index or a key; None: not said."""

    labels: int | str | None = None
    group: int | str | None = None


@dataclass(frozen=True)
class Batch:
    """One batch, on the device of the model."""

    given: Any
    """As the loader yields it."""
    call: Call
    label: Tensor | None
    """int ``[B]``, on the CPU."""
    group: tuple[str, ...] | None
    """Of each sample."""


def read_batch(
    model: nn.Module, batch: Any, device: torch.device, columns: Columns, *, checked: bool
) -> Batch:
    """How the model is called with a batch, and the labels and groups in it.

    Args:
        columns: where labels and groups are; they are not passed to the model. Without labels being
            said, a trailing integer tensor ``[B]`` is taken for them.
        checked: whether the call must fit the signature of ``forward``. If not, a function of the
            user's makes the call, and no labels are guessed.

    Raises:
        InputError: the model cannot be called with it, or it has no such column.
    """
    label = None if columns.labels is None else _labels(_column(batch, columns.labels))
    group = None if columns.group is None else _groups(_column(batch, columns.group))
    given = _moved(batch, device)
    taken = {place for place in (columns.labels, columns.group) if place is not None}
    if not checked:
        return Batch(given, ((), {}), label, group)
    call, trailing = _split(model, _without(given, taken), find_label=columns.labels is None)
    _check_call(model, call)
    if label is None and trailing is not None:
        label = trailing.cpu().long()
    return Batch(given, call, label, group)


def _column(batch: Any, place: int | str) -> Any:
    try:
        return batch[place]
    except (LookupError, TypeError) as error:
        keys = [*map(str, batch)] if isinstance(batch, Mapping) else []
        length = len(batch) if isinstance(batch, (tuple, list)) else 0
        raise InputError(
            f"the batches have no column {place!r}",
            got=f"a {type(batch).__name__} of {', '.join(keys) or length}",
            expected="a key of the dict, or an index of the tuple that the loader yields",
            remedy=did_you_mean(str(place), keys) or "name another one",
        ) from error


def _labels(column: Any) -> Tensor:
    label = column if isinstance(column, Tensor) else None
    several = isinstance(column, (tuple, list))
    if several and all(isinstance(item, int) and not isinstance(item, bool) for item in column):
        label = torch.tensor(column)
    if label is None or label.dtype not in _LABELS or label.dim() != 1:
        raise InputError(
            "the labels are no classes",
            got=f"{column.dtype} {list(column.shape)}"
            if isinstance(column, Tensor)
            else type(column).__name__,
            expected="an integer tensor [B]",
            remedy="name the column with the class (identity) of each sample",
        )
    return label.cpu().long()


def _groups(column: Any) -> tuple[str, ...]:
    values = column.tolist() if isinstance(column, Tensor) else column
    flat = isinstance(values, (tuple, list)) and not any(
        isinstance(value, (tuple, list, dict, Tensor)) for value in values
    )
    if not flat:
        raise InputError(
            "the groups are not one value for each sample",
            got=type(column).__name__,
            expected="a tensor [B] or a list of B numbers or words",
            remedy="name the column with the group (camera, site) of each sample",
        )
    return tuple(map(str, values))


def _without(batch: Any, taken: set[int | str]) -> Any:
    if not taken:
        return batch
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in taken}
    size = len(batch)
    left = [v for i, v in enumerate(batch) if i not in taken and i - size not in taken]
    return left[0] if len(left) == 1 else tuple(left)


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


def _split(model: nn.Module, batch: Any, *, find_label: bool) -> tuple[Call, Tensor | None]:
    if isinstance(batch, Mapping):
        return call_of_mapping(model.forward, batch), None
    if not isinstance(batch, (tuple, list)):
        return ((batch,), {}), None
    label = batch[-1] if batch and find_label else None
    if len(batch) < 2 or not (
        isinstance(label, Tensor) and label.dim() == 1 and label.dtype in _LABELS
    ):
        return (tuple(batch), {}), None
    inputs = batch[:-1]
    if len(inputs) == 1 and isinstance(inputs[0], (tuple, list, Mapping)):  # ((a, b, c), label)
        return _split(model, inputs[0], find_label=False)[0], label
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
            remedy="wrap the loader so that it yields these and nothing else, say which columns "
            "are labels= (--labels) and group_by= (--group-by), or with forward= (--forward) how "
            "the model is called with a batch",
        ) from None
