"""The arguments of one call: what a user's word means in it, and whether a function takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CMIEIError
from .pytree import Call, Path, call_tensors, key_named, value_at

__all__ = [
    "call_of_mapping",
    "describe",
    "first_tensors",
    "places_of_tensors",
    "refuse_misfit",
    "resolve",
    "word_for",
]

_MOST_ITEMS = 8
"""How many items of a list a message describes."""


def first_tensors(call: Call) -> list[Path]:
    """The paths of all tensors: the arguments themselves before what is inside of others."""
    return sorted((path for path, _ in call_tensors(call)), key=lambda path: len(path) > 1)


def _arguments(call: Call) -> list[tuple[Path, Any]]:
    args, kwargs = call
    positional: list[tuple[Path, Any]] = [((i,), value) for i, value in enumerate(args)]
    return positional + [((key,), value) for key, value in kwargs.items()]


def resolve(call: Call, word: int | str, parameters: Sequence[str]) -> Path | None:
    """The path in a call that a user's word means; None if the call has nothing there.

    A number is an argument position; if the first argument is a list (or tuple), or no argument is
    a tensor, it is an index of the first list (or a key of the first dict). A string is a keyword,
    else a key of a dict among the arguments, else a path such as ``text.0``: an argument, by its
    position or one of these words, and the indices, keys and fields that lead inwards. An argument
    that the caller passes in the other way is found by the names of the parameters of ``forward``.
    """
    if isinstance(word, int):
        if path := _container(_arguments(call)):
            holder = value_at(call, path)
            known = word in holder if isinstance(holder, Mapping) else word < len(holder)
            return (*path, word) if known else None
        return _position(call, word, parameters)
    return _named(call, word, parameters) or _inside(call, word, parameters)


def _position(call: Call, position: int, parameters: Sequence[str]) -> Path | None:
    args, kwargs = call
    if position < len(args):
        return (position,)
    keyword = parameters[position] if position < len(parameters) else None
    return (keyword,) if keyword in kwargs else None


def _named(call: Call, word: str, parameters: Sequence[str]) -> Path | None:
    args, kwargs = call
    if word in kwargs:
        return (word,)
    for path, value in _arguments(call):
        if isinstance(value, Mapping) and word in value:
            return (*path, word)
    position = parameters.index(word) if word in parameters else len(args)
    return (position,) if position < len(args) else None


def _inside(call: Call, word: str, parameters: Sequence[str]) -> Path | None:
    """The path that leads into an argument; where something on it is None, it ends there."""
    first, *inwards = word.split(".")
    if not inwards:
        return None
    if first.isdecimal():
        path = _position(call, int(first), parameters)
    else:
        path = _named(call, first, parameters)
    for part in inwards:
        if path is None or (value := value_at(call, path)) is None:
            return path
        key = key_named(value, part)
        path = None if key is None else (*path, key)
    return path


def word_for(call: Call, path: Path, parameters: Sequence[str]) -> int | str | None:
    """The shortest word that means this path; None if no word does."""
    first, *inwards = path
    name = parameters[first] if isinstance(first, int) and first < len(parameters) else first
    paths = (inwards, (name, *inwards), (first, *inwards))
    words = [path[-1], *(".".join(map(str, one)) for one in paths)]
    return next((word for word in words if resolve(call, word, parameters) == path), None)


def places_of_tensors(call: Call, parameters: Sequence[str]) -> str:
    """Where the tensors of a call are, in words that a user can write, for a message."""
    words = [word_for(call, path, parameters) for path in first_tensors(call)]
    texts = [repr(word) for word in words if word is not None]
    more = [f"{len(texts)} in all"] if len(texts) > _MOST_ITEMS else []
    return ", ".join(texts[:_MOST_ITEMS] + more) or "no place"


def _container(arguments: Sequence[tuple[Path, Any]]) -> Path | None:
    """The list or dict whose items a number means; None if it means an argument."""
    if arguments and isinstance(arguments[0][1], (list, tuple)):
        return arguments[0][0]
    if any(isinstance(value, Tensor) for _, value in arguments):
        return None
    holders = [path for path, value in arguments if isinstance(value, (list, tuple, Mapping))]
    return holders[0] if holders else None


def call_of_mapping(forward: Callable[..., Any], mapping: Mapping[str, Any]) -> Call:
    """How a dict of inputs is passed: as keywords if ``forward`` has them, else as one argument."""
    try:
        inspect.signature(forward).bind(**mapping)
    except (TypeError, ValueError):
        return (mapping,), {}
    return (), dict(mapping)


def refuse_misfit(
    function: Callable[..., Any],
    call: Call,
    error: type[CMIEIError],
    problem: str,
    *,
    got: str,
    expected: str = "",
    remedy: str,
) -> None:
    """Refuse, before the call, arguments that a function does not take.

    Args:
        function: whose signature is asked; one without a signature takes anything.
        call: the arguments.
        error: what is raised.
        problem: its first line.
        got: the arguments, in words; what is wrong with them is added.
        expected: by default the signature of the function.
        remedy: what to do.

    Raises:
        CMIEIError: ``error``.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C
        return
    try:
        signature.bind(*call[0], **call[1])
    except TypeError as reason:
        name = getattr(function, "__name__", type(function).__name__)
        raise error(
            problem,
            got=f"{got}: {reason}" if got else str(reason),
            expected=expected or f"{name}{signature}",
            remedy=remedy,
        ) from None


def describe(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return _describe_tensor(value)
    if isinstance(value, (tuple, list)):
        items = [describe(v) for v in value[:_MOST_ITEMS]]
        items += [f"{len(value)} in all"] if len(value) > _MOST_ITEMS else []
        return f"{type(value).__name__} of ({', '.join(items)})"
    if isinstance(value, Mapping):
        return "dict of {" + ", ".join(f"{k!r}: {describe(v)}" for k, v in value.items()) + "}"
    return type(value).__name__


def _describe_tensor(tensor: Tensor) -> str:
    try:
        sizes = (str(size) if isinstance(size, int) else "*" for size in tensor.shape)
        shape = f"of shape [{', '.join(sizes)}]"
    except RuntimeError:  # the older kind of nested tensor has none
        shape = "of ragged shape"
    kind = "" if type(tensor) in (Tensor, nn.Parameter) else f" ({type(tensor).__name__})"
    layout = "" if tensor.layout is torch.strided else f", {tensor.layout}"
    return f"{tensor.dtype} {shape}{layout}{kind}"
