"""``module:function``, as users name their functions; the refusals know what was meant."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .errors import CheckpointError, did_you_mean

__all__ = ["functions_in", "parse_function"]

_NAME = re.compile(r"(?!\.)[\w.-]+(?<!\.py):[^\W\d][\w.]*")
_MOST_LISTED = 8


def parse_function(spec: str) -> tuple[str, str]:
    """The module and the function in ``package.module:function``; nothing is imported.

    Raises:
        CheckpointError: it has another form; the remedy is the name that was probably meant.

    Example:
        >>> parse_function("package.module:make_model")
        ('package.module', 'make_model')
    """
    if _NAME.fullmatch(spec):
        module, _, function = spec.partition(":")
        return module, function
    raise CheckpointError(
        "a function is named as MODULE:FUNCTION",
        got=repr(spec[:200]),
        expected="a module as in an import statement, a colon and a function: pkg.module:function",
        remedy=_remedy(spec.strip()),
    )


def functions_in(file: Path) -> list[str]:
    """The public functions and classes that a file of Python defines; it is not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    return [name for name in names if not name.startswith("_")]


def _remedy(spec: str) -> str:
    """What to write instead."""
    place, colon, function = spec.partition("()")[0].rpartition(":")
    if not colon:
        place, function = function, ""
    place, function = place.strip(" :"), function.strip()
    if not place:
        return "name the module, a colon and the function"
    if _file(place.removesuffix(".py")).is_file() and "/" not in place:
        place = place.removesuffix(".py")
    elif "/" in place or "\\" in place or place.endswith(".py"):
        return _remedy_of_file(Path(place.replace("\\", "/")), function)
    place = place.strip(".")
    if not function and not _file(place).is_file() and "." in place:
        place, _, function = place.rpartition(".")
    return _written(place, function, _file(place))


def _file(module: str) -> Path:
    """Where a module would be if it is in the working directory."""
    return Path(*module.split(".")).with_suffix(".py")


def _remedy_of_file(path: Path, function: str) -> str:
    file = path if path.suffix == ".py" else path.parent / f"{path.name}.py"
    if not file.is_file():
        near = did_you_mean(file.name, [one.name for one in file.parent.glob("*.py")])
        return f"there is no file {file}: " + (near or "check the path, and name it as a module")
    inside, here = file.resolve().with_suffix(""), Path.cwd()
    if inside.is_relative_to(here):
        return _written(".".join(inside.relative_to(here).parts), function, file)
    write = _written(inside.name, function, file)
    return f"{write}, with PYTHONPATH={inside.parent} in front of the command"


def _written(module: str, function: str, file: Path) -> str:
    """``write MODULE:FUNCTION``, with a function that is there."""
    known = functions_in(file)
    if function and (function in known or not known):
        return f"write {module}:{function}"
    if function and (near := did_you_mean(function, known)):
        return f"write {module}:FUNCTION; it has no function {function!r}: {near}"
    listed = ", ".join(known[:_MOST_LISTED])
    which = f"one of its functions: {listed}" if known else "the function in it"
    return f"write {module}:FUNCTION with {which}"
