"""One call of a module: find tensors in its arguments, and make the same call with others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from .pytree import replaced

__all__ = [
    "Call",
    "Path",
    "call_of_mapping",
    "describe",
    "first_tensors",
    "resolve",
    "value_at",
    "with_values",
]

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""``args`` and ``kwargs``."""

Path = tuple[Any, ...]
"""Keys that lead from a call to one value: ``(0, i)`` into args, ``(1, key)`` into kwargs, ..."""


def first_tensors(call: Call) -> list[Path]:
    """Where the tensors among the arguments are, positional before keyword."""
    return [path for path, value in _arguments(call) if isinstance(value, Tensor)]


def _arguments(call: Call) -> list[tuple[Path, Any]]:
    args, kwargs = call
    positional: list[tuple[Path, Any]] = [((0, i), value) for i, value in enumerate(args)]
    return positional + [((1, key), value) for key, value in kwargs.items()]


def resolve(call: Call, place: int | str, parameters: Sequence[str]) -> Path | None:
    """Where the place is that a user named; None if the call has no such place.

    A number is an argument position; if the first argument is a list (or tuple), or no argument is
    a tensor, it is an index of the first list (or a key of the first dict). A word is a keyword,
    else a key of a dict among the arguments. An argument that the caller passes in the other way is
    found by the names of the parameters of ``forward``.
    """
    args, kwargs = call
    arguments = _arguments(call)
    if isinstance(place, int):
        if path := _inside(arguments):
            holder = value_at(call, path)
            known = place in holder if isinstance(holder, Mapping) else place < len(holder)
            return (*path, place) if known else None
        if place < len(args):
            return 0, place
        keyword = parameters[place] if place < len(parameters) else None
        return (1, keyword) if keyword in kwargs else None
    if place in kwargs:
        return 1, place
    for path, value in arguments:
        if isinstance(value, Mapping) and place in value:
            return (*path, place)
    position = parameters.index(place) if place in parameters else len(args)
    return (0, position) if position < len(args) else None


def _inside(arguments: Sequence[tuple[Path, Any]]) -> Path | None:
    """The list or dict whose items are meant by numbers; None: the arguments themselves are."""
    if arguments and isinstance(arguments[0][1], (list, tuple)):
        return arguments[0][0]
    if any(isinstance(value, Tensor) for _, value in arguments):
        return None
    holders = [path for path, value in arguments if isinstance(value, (list, tuple, Mapping))]
    return holders[0] if holders else None


def value_at(call: Call, path: Path) -> Any:
    """What stands at a path."""
    value: Any = call
    for key in path:
        value = value[key]
    return value


def with_values(call: Call, values: Mapping[Path, Any]) -> Call:
    """The same call with other values; the caller's containers are not written into."""
    for path, value in values.items():
        call = replaced(call, path, value)
    return call


def call_of_mapping(forward: Callable[..., Any], mapping: Mapping[str, Any]) -> Call:
    """How a dict of inputs is passed: as keywords if ``forward`` has them, else as one argument."""
    try:
        inspect.signature(forward).bind(**mapping)
    except (TypeError, ValueError):
        return (mapping,), {}
    return (), dict(mapping)


def describe(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of ({', '.join(describe(v) for v in value)})"
    if isinstance(value, Mapping):
        return "dict of {" + ", ".join(f"{k!r}: {describe(v)}" for k, v in value.items()) + "}"
    return type(value).__name__
