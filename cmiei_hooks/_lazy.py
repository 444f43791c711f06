"""Names that are imported when they are first asked for: importing torch takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy"]


def lazy(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package whose names come when needed.

    Args:
        package: its ``__name__``.
        homes: each name, and the module inside the package that has it; a module that is itself
            the name is its own home.

    Example:
        >>> __getattr__, __dir__ = lazy("cmiei_hooks", {"attach": "training"})
        >>> __getattr__("attach").__name__
        'attach'
    """
    module = sys.modules[package]

    def getattribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}", name=name, obj=module
            )
        home = import_module(f"{package}.{homes[name]}")
        value = home if homes[name] == name else getattr(home, name)
        setattr(module, name, value)  # Python asks here once for each name
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *homes})

    return getattribute, names
