"""What a batch of a loader holds: the arguments of the model, labels and groups."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, did_you_mean
from ..fusion import Call, call_of_mapping, mapped, refuse_misfit
from .remedies import WAYS

__all__ = ["Batch", "Columns", "read_batch"]

Column = int | str
"""An index of the tuple that the loader yields, or a key of the dict."""

_LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_LABEL_KEYS = ("labels", "label", "target", "y")


@dataclass(frozen=True)
class Columns:
    """Which columns of a batch are what; None: not said."""

    labels: Column | None = None
    group: Column | None = None
    inputs: tuple[Column, ...] | None = None
    """What the model is called with, in this order."""


@dataclass(frozen=True)
class Batch:
    """One batch, on the device of the model."""

    given: Any
    """The batch as the loader yields it."""
    call: Call
    """How the model is called with it."""
    label: Tensor | None
    """int64 ``[B]``, on the CPU."""
    group: tuple[str, ...] | None
    """The group of each sample."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each argument of ``forward``, by its name, comes from."""
    label_source: str | None = None
    """Where the labels come from."""


@dataclass(frozen=True)
class _Reading:
    """A call of the model, and the column from which each argument comes."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    arg_sources: tuple[str, ...] = ()
    kwarg_sources: dict[str, str] = field(default_factory=dict)
    label: Tensor | None = None
    label_source: str | None = None


def read_batch(
    model: nn.Module, batch: Any, device: torch.device, columns: Columns, *, checked: bool
) -> Batch:
    """How the model is called with a batch, and the labels and groups in it.

    Columns that are named as labels or groups are not passed to the model. If no labels are named,
    a trailing integer tensor ``[B]`` of a tuple is taken for them, and so is one in a dict under
    ``labels``, ``label``, ``target`` or ``y`` unless ``forward`` takes that keyword.

    Args:
        model: to be called with the batch.
        batch: as the loader yields it.
        device: of the model.
        columns: what the user says about the columns.
        checked: whether the call must fit the signature of ``forward``. If not, a function of the
            user's makes the call, and no labels are guessed.

    Raises:
        InputError: the model cannot be called with it, optional arguments of ``forward`` would be
            filled, or there is no such column.
    """
    label = None if columns.labels is None else _labels(_column(batch, columns.labels))
    group = None if columns.group is None else _groups(_column(batch, columns.group))
    label_source = None if columns.labels is None else _named(columns.labels)
    given = mapped(batch, lambda x: x.to(device))
    if not checked:
        return Batch(given, ((), {}), label, group, label_source=label_source)
    taken = {_index(batch, c) for c in (columns.labels, columns.group) if c is not None}
    find_label = columns.labels is None
    if columns.inputs is None:
        reading = _read(model, given, "", taken, find_label=find_label)
        _refuse_optional(model, reading)
    else:
        reading = _chosen(given, columns.inputs, taken, find_label=find_label)
    _refuse_unfit(model, reading)
    if reading.label is not None:
        label, label_source = reading.label.cpu().long(), reading.label_source
    call = reading.args, reading.kwargs
    return Batch(given, call, label, group, _sources(model, reading), label_source)


def _column(batch: Any, column: Column) -> Any:
    try:
        if isinstance(batch, Tensor):
            raise TypeError("a tensor has rows, not columns")
        return batch[column]
    except (LookupError, TypeError) as error:
        keys = [*map(str, batch)] if isinstance(batch, Mapping) else []
        got = f"a {type(batch).__name__}"
        if keys or isinstance(batch, (tuple, list)):
            got += f" of {', '.join(keys) or len(batch)}"
        raise InputError(
            f"the batches have no column {column!r}",
            got=got,
            expected="a key of the dict, or an index of the tuple that the loader yields",
            remedy=did_you_mean(str(column), keys) or "name a column that the batches have",
        ) from error


def _index(batch: Any, column: Column) -> Column:
    """The column, counted from the front."""
    if isinstance(batch, Mapping) or isinstance(column, str) or column >= 0:
        return column
    return len(batch) + column


def _named(column: Column, at: str = "") -> str:
    return f"{at}, item {column!r}" if at else f"column {column!r}"


def _labels(column: Any) -> Tensor:
    label = column if isinstance(column, Tensor) else None
    several = isinstance(column, (tuple, list))
    if several and all(isinstance(item, int) and not isinstance(item, bool) for item in column):
        label = torch.tensor(column)
    if not _are_labels(label):
        raise InputError(
            "the column of the labels does not hold one class for each sample",
            got=f"{column.dtype} {list(column.shape)}"
            if isinstance(column, Tensor)
            else type(column).__name__,
            expected="an integer tensor [B]",
            remedy="name the column with the class (identity) of each sample",
        )
    return label.cpu().long()  # type: ignore[union-attr]  # refused above if it is None


def _are_labels(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 1 and value.dtype in _LABELS


def _groups(column: Any) -> tuple[str, ...]:
    values = column.tolist() if isinstance(column, Tensor) else column
    flat = isinstance(values, (tuple, list)) and not any(
        isinstance(value, (tuple, list, dict, Tensor)) for value in values
    )
    if not flat:
        raise InputError(
            "the column of the groups does not hold one value for each sample",
            got=type(column).__name__,
            expected="a tensor [B] or a list of B numbers or words",
            remedy="name the column with the group (camera, site) of each sample",
        )
    return tuple(map(str, values))


def _read(
    model: nn.Module, value: Any, at: str, taken: set[Column], *, find_label: bool
) -> _Reading:
    """The call for a batch, or for what is left of it after labels and groups are taken away."""
    if isinstance(value, Mapping):
        return _read_mapping(model, value, at, taken, find_label=find_label)
    if not isinstance(value, (tuple, list)):
        return _Reading((value,), arg_sources=(at or "the batch",))
    left = [(_named(i, at), item) for i, item in enumerate(value) if i not in taken]
    label = label_source = None
    if find_label and len(left) > 1 and _are_labels(left[-1][1]):
        label_source, label = left.pop()
    if len(left) == 1 and len(value) > 1:  # ((a, b, c), label)
        source, inner = left[0]
        find = find_label and label is None
        reading = _read(model, inner, source, set(), find_label=find)
    else:
        reading = _Reading(tuple(v for _, v in left), arg_sources=tuple(s for s, _ in left))
    if label is None:
        return reading
    return dataclasses.replace(reading, label=label, label_source=label_source)


def _read_mapping(
    model: nn.Module, value: Mapping[str, Any], at: str, taken: set[Column], *, find_label: bool
) -> _Reading:
    left = {key: item for key, item in value.items() if key not in taken}
    call, label_key = call_of_mapping(model.forward, left), None
    if find_label and not call[1]:  # forward does not take these keywords
        found = (key for key in _LABEL_KEYS if _are_labels(left.get(key)))
        label_key = next(found, None)
        without = {key: item for key, item in left.items() if key != label_key}
        unlabelled = call_of_mapping(model.forward, without)
        call = unlabelled if unlabelled[1] else call
    label = None if label_key is None else left[label_key]
    label_source = None if label_key is None else _named(label_key, at)
    sources = {key: _named(key, at) for key in call[1]}
    whole = (at or "the batch",) if call[0] else ()
    return _Reading(*call, whole, sources, label, label_source)


def _chosen(
    batch: Any, inputs: tuple[Column, ...], taken: set[Column], *, find_label: bool
) -> _Reading:
    """The call with the columns that the user names."""
    args = tuple(_column(batch, column) for column in inputs)
    used = {_index(batch, column) for column in inputs} | taken
    candidates: tuple[Column, ...] = ()
    if find_label and isinstance(batch, Mapping):
        candidates = _LABEL_KEYS
    elif find_label and isinstance(batch, (tuple, list)):
        candidates = (len(batch) - 1,)
    for column in candidates:
        known = not isinstance(batch, Mapping) or column in batch
        if known and column not in used and _are_labels(batch[column]):
            label: Tensor | None = batch[column]
            label_source: str | None = _named(column)
            break
    else:
        label = label_source = None
    sources = tuple(map(_named, inputs))
    return _Reading(args, arg_sources=sources, label=label, label_source=label_source)


def _positional(model: nn.Module) -> list[inspect.Parameter]:
    """The parameters of forward that can be given by position, ``*args`` included."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is not Python's
        return []
    kinds: list[Any] = [
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    ]
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _sources(model: nn.Module, reading: _Reading) -> dict[str, str]:
    parameters, found = _positional(model), {}
    for i, source in enumerate(reading.arg_sources):
        parameter = parameters[min(i, len(parameters) - 1)] if parameters else None
        if parameter is None:
            name = str(i)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            name = f"{parameter.name}[{i - parameters.index(parameter)}]"
        else:
            name = parameter.name
        found[name] = source
    return found | reading.kwarg_sources


def _refuse_optional(model: nn.Module, reading: _Reading) -> None:
    """Refuse to bind columns to optional arguments: a camera would pass for a mask or a label."""
    given = list(zip(_positional(model), reading.arg_sources, strict=False))
    # The first argument is the input of the model even if it is optional.
    optional = [
        (parameter.name, source)
        for parameter, source in given[1:]
        if parameter.default is not parameter.empty
    ]
    if not optional:
        return
    needed = reading.arg_sources[: len(given) - len(optional)]
    raise InputError(
        "columns of the batch would be passed to optional arguments of forward",
        got=", ".join(f"{source} as {name}" for name, source in optional),
        expected=f"only what forward needs ({', '.join(needed)}), or inputs= that names the rest",
        remedy=WAYS,
    )


def _refuse_unfit(model: nn.Module, reading: _Reading) -> None:
    sources = [*reading.arg_sources, *reading.kwarg_sources.values()]
    values = [*reading.args, *reading.kwargs.values()]
    given = [f"{s} ({type(v).__name__})" for s, v in zip(sources, values, strict=True)]
    given += [] if reading.label is None else [f"{reading.label_source} as the labels"]
    refuse_misfit(
        model.forward,
        (reading.args, reading.kwargs),
        InputError,
        "the model cannot be called with a batch of this loader",
        got=", ".join(given),
        expected="the inputs of forward (a tensor, a tuple, or a dict), or these followed by "
        "an integer tensor [B] of labels",
        remedy=WAYS,
    )
