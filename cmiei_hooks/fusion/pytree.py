"""Calls and nested containers: where their tensors are, and copies with some of them replaced."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor

__all__ = [
    "Call",
    "Field",
    "Path",
    "call_tensors",
    "key_named",
    "mapped",
    "replaced",
    "tensors",
    "value_at",
    "with_values",
]

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""``args`` and ``kwargs``."""

Path = tuple[Any, ...]
"""The indices, keys and field names that lead to a value in nested containers. In a call the first
one is the position or the keyword of an argument."""


class Field(str):
    """The name of a field of a dataclass or namespace: an attribute, not a key."""

    __slots__ = ()


def tensors(value: Any, at: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in lists, tuples, mappings, dataclasses and namespaces, in their order."""
    if isinstance(value, Tensor):
        yield at, value
    else:
        for key, item in _items(value):
            yield from tensors(item, (*at, key))


def call_tensors(call: Call) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor among the arguments, positions before keywords."""
    args, kwargs = call
    yield from tensors(args)
    yield from tensors(kwargs)


def value_at(call: Call, path: Path) -> Any:
    """The value at a path in a call."""
    value: Any = _side(call, path)
    for key in path:
        value = getattr(value, key) if isinstance(key, Field) else value[key]
    return value


def key_named(value: Any, word: str) -> Any:
    """The key, index or field that a word means in a container; None if it has nothing there."""
    if isinstance(value, tuple) and word in getattr(value, "_fields", ()):
        return value._fields.index(word)  # type: ignore[attr-defined]  # of a named tuple
    keys = [key for key, _ in _items(value)]
    if word in keys:
        return keys[keys.index(word)]
    return int(word) if word.isdecimal() and int(word) in keys else None


def with_values(call: Call, values: Mapping[Path, Any]) -> Call:
    """The same call with other values; the caller's containers are not written into."""
    args, kwargs = call
    for path, value in values.items():
        if isinstance(path[0], int):
            args = replaced(args, path, value)
        else:
            kwargs = replaced(kwargs, path, value)
    return args, kwargs


def _side(call: Call, path: Path) -> Any:
    return call[0] if isinstance(path[0], int) else call[1]


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy of the containers on the way to ``path``, with ``new`` there."""
    if not path:
        return new
    key, *rest = path
    return _with(value, {key: replaced(dict(_items(value))[key], tuple(rest), new)})


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A copy of the containers with ``function`` applied to every tensor."""
    if isinstance(value, Tensor):
        return function(value)
    items = _items(value)
    return _with(value, {key: mapped(item, function) for key, item in items}) if items else value


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, SimpleNamespace):
        return [(Field(name), item) for name, item in vars(value).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [
            (Field(field.name), getattr(value, field.name)) for field in dataclasses.fields(value)
        ]
    return []


def _with(value: Any, changes: Mapping[Any, Any]) -> Any:
    if isinstance(value, tuple):
        items = [changes.get(index, item) for index, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return {**value, **changes}  # a read-only mapping
    new = copy.copy(value)
    for key, item in changes.items():
        if isinstance(value, (Mapping, list)):
            new[key] = item
        else:
            object.__setattr__(new, key, item)  # the dataclass may be frozen
    return new
