"""Load what a user names on the command line: ``module:function`` and checkpoints, safely."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, did_you_mean

__all__ = ["Loaded", "import_function", "load_checkpoint", "read_state_dict"]

_NESTS = ("state_dict", "model", "model_state_dict")
_WRAPPERS = ("module.", "_orig_mod.")


def import_function(spec: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; the working directory is importable.

    Raises:
        CheckpointError: it has another form, or there is no such module or function.
    """
    module_name, colon, function_name = spec.partition(":")
    if not (module_name and colon and function_name):
        raise CheckpointError(
            "a function is named as module:function", got=repr(spec), expected="pkg.module:function"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{spec!r} cannot be imported",
            got=str(error),
            expected="a module that Python finds from here",
            remedy="run from the directory that contains it, or set PYTHONPATH",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value)]
        raise CheckpointError(
            f"{module_name} has no function {function_name!r}",
            got=f"functions {', '.join(n for n in known if not n.startswith('_')) or 'none'}",
            remedy=did_you_mean(function_name, known),
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint did and did not give to the model."""

    path: str
    loaded: int
    missing: tuple[str, ...]
    """In the model but not in the checkpoint; these keep their initial values."""
    unexpected: tuple[str, ...]
    """In the checkpoint but not in the model."""
    mismatched: tuple[str, ...]
    """In both, with other shapes; these keep their initial values."""


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str], head: str) -> Loaded:
    """Load weights into the model and say exactly what did not fit.

    Args:
        model: written into.
        path: a file of ``torch.save``; read with ``weights_only=True``.
        head: name of the fusion head, whose weights must all be there.

    Raises:
        CheckpointError: the file is unreadable or unsafe, or a weight of the head is missing.
    """
    own = model.state_dict()
    given = _unwrapped(read_state_dict(path), own)
    mismatched = tuple(
        f"{key} {list(given[key].shape)} for {list(own[key].shape)}"
        for key in given
        if key in own and given[key].shape != own[key].shape
    )
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    missing = tuple(key for key in own if key not in given)
    lost = [key for key in own if key not in fitting and _belongs(key, head)]
    if lost:
        shapes = [text for text in mismatched if _belongs(text, head)]
        near = did_you_mean(lost[0], given)
        raise CheckpointError(
            f"{os.fspath(path)}: the checkpoint does not hold the weights of the head {head!r}",
            got="; ".join(shapes) or f"{len(given)} weights, without {', '.join(lost)}",
            expected=", ".join(f"{key} {list(own[key].shape)}" for key in lost),
            remedy=near or "pass the checkpoint of this model, saved with its head",
        )
    model.load_state_dict(fitting, strict=False)
    unexpected = tuple(key for key in given if key not in own)
    return Loaded(os.fspath(path), len(fitting), missing, unexpected, mismatched)


def _belongs(key: str, head: str) -> bool:
    return not head or key.startswith(head + ".")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a checkpoint, also when nested under ``state_dict`` or ``model``.

    Raises:
        CheckpointError: no such file, damaged, refused by ``weights_only=True``, no weights.
    """
    try:
        content = torch.load(Path(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.findall(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(
            f"{os.fspath(path)}: the file holds more than weights and was not opened",
            got="blocked: " + ", ".join(blocked) if blocked else str(error).splitlines()[0],
            expected="tensors, numbers, strings and containers (torch.load with weights_only=True)",
            remedy="save model.state_dict() alone: loading anything else can run code",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{os.fspath(path)}: the checkpoint cannot be read",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a file written by torch.save",
        ) from error
    found = content
    while isinstance(found, Mapping) and not any(isinstance(v, Tensor) for v in found.values()):
        nest = next((key for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if nest is None:
            break
        found = found[nest]
    weights = (
        {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not weights:
        inside = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"{os.fspath(path)}: the file holds no weights",
            got=f"{type(content).__name__} {inside}".strip(),
            expected="a state dict, alone or under " + ", ".join(map(repr, _NESTS)),
        )
    return weights


def _unwrapped(given: dict[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """Without the prefixes of DDP and torch.compile, as long as they help."""
    while prefix := next((w for w in _WRAPPERS if all(key.startswith(w) for key in given)), None):
        if any(key.startswith(prefix) for key in own):
            break
        given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given
