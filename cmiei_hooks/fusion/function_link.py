"""A function as a link of a chain, such as ``torch.relu`` between two Linears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FunctionLink", "FunctionName", "torch_function"]

Function = Callable[[Tensor], Tensor]

_NAMESPACES: dict[str, Any] = {
    "torch": torch,
    "torch.nn.functional": nn.functional,
    "torch.special": torch.special,
}
"""Where a function may be that is given by its name, as in YAML."""


class FunctionName(str):
    """The name of a link that is a function; it brings the function with it.

    A copy of it (deepcopy, pickle) is plain text.
    """

    function: Function

    def __new__(cls, function: Function) -> FunctionName:
        """Name a function."""
        name = super().__new__(cls, _name_of(function))
        name.function = function
        return name

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class FunctionLink(nn.Module):
    """A function between modules, as a module that is called where only modules can be."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.used = tuple(_modules_of(function))
        """Modules that it may run. A tuple: they are not parts of this one."""

    def forward(self, features: Tensor) -> Tensor:
        """Apply the function."""
        return self.function(features)


def torch_function(name: str) -> Function | None:
    """The function of torch with this full name; None if torch has none.

    Example:
        >>> torch_function("torch.nn.functional.gelu")
        <built-in function gelu>
    """
    namespace, _, last = name.rpartition(".")
    found = getattr(_NAMESPACES[namespace], last, None) if namespace in _NAMESPACES else None
    return found if callable(found) and not isinstance(found, type) else None


def _name_of(function: Any) -> str:
    if isinstance(function, partial):
        given = [repr(x) if _is_plain(x) else "..." for x in function.args]
        given += [f"{k}={v!r}" if _is_plain(v) else k for k, v in function.keywords.items()]
        return f"{_name_of(function.func)}({', '.join(given)})"
    name = getattr(function, "__name__", type(function).__name__)
    for namespace, where in _NAMESPACES.items():
        if getattr(where, name, None) is function:
            return f"{namespace}.{name}"
    return str(name)


def _is_plain(value: object) -> bool:
    """Whether it is written alike in every process; the seed of the noise depends on the name."""
    return value is None or isinstance(value, (bool, int, float, str))


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """The modules that a function brings with it: its object, its closure, its arguments."""
    held = [getattr(function, "__self__", None)]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    if isinstance(function, partial):
        yield from _modules_of(function.func)
        held += [*function.args, *function.keywords.values()]
    yield from (value for value in held if isinstance(value, nn.Module))
