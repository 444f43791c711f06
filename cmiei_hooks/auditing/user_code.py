"""The functions that a user names on the command line as ``module:function``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError, did_you_mean
from ..function_name import parse_function
from ..fusion import refuse_misfit
from .offloaded import is_offloaded

__all__ = ["call_function", "import_function", "make_model"]


def import_function(spec: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; the working directory is importable.

    Raises:
        CheckpointError: it has another form, or the module or function does not exist.
    """
    module_name, function_name = parse_function(spec)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        own = missing and (module_name + ".").startswith(f"{missing}.")
        if own:
            near = did_you_mean(module_name.partition(".")[0], _modules_here())
            remedy = near or "run from the directory that contains it, or set PYTHONPATH"
        elif missing:
            remedy = f"{module_name} imports {missing}: run from the directory that contains it, "
            remedy += "or install it"
        else:
            remedy = "the fault is inside that module: import it in Python to see the traceback"
        raise CheckpointError(
            f"{spec!r} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            expected="a module that Python finds from here and can import",
            remedy=remedy,
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value)]
        listed = [name for name in known if not name.startswith("_")][:10]
        raise CheckpointError(
            f"{module_name} has no function {function_name!r}",
            got=repr(function_name),
            expected=f"one of its functions, such as {', '.join(listed)}"
            if listed
            else "a function",
            remedy=did_you_mean(function_name, known) or "write one",
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


def _modules_here() -> list[str]:
    """The modules and packages in the working directory."""
    here = Path.cwd().iterdir()
    return [path.stem for path in here if path.suffix == ".py" or (path / "__init__.py").is_file()]


def call_function(spec: str, **arguments: Any) -> Any:
    """What the function returns, called with these arguments.

    Raises:
        CheckpointError: as ``import_function``; or it needs others.
    """
    function = import_function(spec)
    given = ", ".join(arguments)
    refuse_misfit(
        function,
        ((), arguments),
        CheckpointError,
        f"{spec} cannot be called with {given}"
        if given
        else f"{spec} cannot be called without arguments",
        got="",
        remedy="write a function that calls it with the arguments you want (for the model, "
        "--model-args KEY=VALUE)",
    )
    return function(**arguments)


def make_model(spec: str, arguments: dict[str, Any], device: str) -> nn.Module:
    """The model that a factory returns, on its device.

    Args:
        spec: ``module:function``.
        arguments: the keyword arguments of the function.
        device: as torch names it; ``auto`` is the GPU of this process if there is one. A model
            that is offloaded stays where it is.

    Raises:
        CheckpointError: the function cannot be called, does not return a model, or the device
            does not exist.
    """
    model = call_function(spec, **arguments)
    if not isinstance(model, nn.Module):
        raise CheckpointError(
            f"{spec} does not return a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="return the model alone, without the optimizer and the like",
        )
    if is_offloaded(model):
        return model  # its hooks say where it runs
    if device == "auto":
        local = os.environ.get("LOCAL_RANK", "0")
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's various ways
        raise CheckpointError(
            f"the model cannot be moved to {device!r}",
            got=str(error).splitlines()[0],
            expected="a device of this machine, such as cpu or cuda",
            remedy="leave --device out",
        ) from error
