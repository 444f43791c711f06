"""The tensors in nested containers: where they stand, and the containers with one exchanged."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor

__all__ = ["Address", "Field", "call_tensors", "mapped", "replaced", "tensors"]

Address = tuple[Any, ...]
"""Indices, keys and field names that lead to a tensor; the first one is a position or a keyword."""


class Field(str):
    """The name of a field of a dataclass or namespace: an attribute and not a key."""

    __slots__ = ()


def tensors(value: Any, at: Address = ()) -> Iterator[tuple[Address, Tensor]]:
    """Every tensor in lists, tuples, mappings, dataclasses and namespaces, in their order."""
    if isinstance(value, Tensor):
        yield at, value
    else:
        for key, item in _items(value):
            yield from tensors(item, (*at, key))


def call_tensors(call: tuple[tuple[Any, ...], dict[str, Any]]) -> Iterator[tuple[Address, Tensor]]:
    """Every tensor among the arguments, positions before keywords."""
    args, kwargs = call
    yield from tensors(args)
    yield from tensors(kwargs)


def replaced(value: Any, address: Address, new: Any) -> Any:
    """A copy of the containers on the way to ``address``, with ``new`` there."""
    if not address:
        return new
    key, *rest = address
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
        return {**value, **changes}  # a read-only one
    new = copy.copy(value)
    for key, item in changes.items():
        if isinstance(value, (Mapping, list)):
            new[key] = item
        else:
            object.__setattr__(new, key, item)  # perhaps a frozen dataclass
    return new
