"""Load what a user names on the command line: ``module:function`` and checkpoints, safely."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import CheckpointError, did_you_mean
from ..fusion import unwrapped
from ..reporting import sha256

__all__ = [
    "Loaded",
    "call_function",
    "checkpoints_in",
    "import_function",
    "load_checkpoint",
    "read_state_dict",
]

_NESTS = ("state_dict", "model", "model_state_dict")
_DEPTH = 3


def import_function(spec: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; the working directory is importable.

    Raises:
        CheckpointError: it has another form, or there is no such module or function.
    """
    module_name, colon, function_name = spec.partition(":")
    if not (module_name and colon and function_name):
        raise CheckpointError(
            "a function is named as module:function",
            got=repr(spec),
            expected="pkg.module:function",
            remedy="put a colon between the module and the function",
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError) as error:  # TypeError: a relative name
        missing = isinstance(error, ModuleNotFoundError) and error.name
        own = missing and (module_name + ".").startswith(f"{missing}.")
        raise CheckpointError(
            f"{spec!r} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            expected="a module that Python finds from here and can import",
            remedy="run from the directory that contains it, or set PYTHONPATH"
            if own
            else "the fault is inside that module: import it in Python to see the traceback",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value)]
        listed = [name for name in known if not name.startswith("_")][:10]
        raise CheckpointError(
            f"{module_name} has no function {function_name!r}",
            got=repr(function_name),
            expected=f"one of its functions, such as {', '.join(listed) or '(it has none)'}",
            remedy=did_you_mean(function_name, known) or "write one",
        )
    return function  # type: ignore[no-any-return]  # callable() does not narrow Any


def call_function(spec: str, **arguments: Any) -> Any:
    """What the function returns, called with these arguments.

    Raises:
        CheckpointError: as ``import_function``; or it needs others.
    """
    function = import_function(spec)
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        given = ", ".join(arguments)
        raise CheckpointError(
            f"{spec} cannot be called with {given}"
            if given
            else f"{spec} cannot be called without arguments",
            got=str(error),
            expected=f"{function.__name__}{inspect.signature(function)}",
            remedy="write a function that calls it with the arguments you want (for the model, "
            "--model-args KEY=VALUE)",
        ) from None
    return function(**arguments)


_SUFFIXES = (".pth", ".pt", ".safetensors")


def checkpoints_in(path: str | os.PathLike[str]) -> list[str]:
    """The file itself, or the checkpoints in a directory: epoch_9 before epoch_10.

    Raises:
        CheckpointError: the directory holds none.
    """
    if not Path(path).is_dir():
        return [os.fspath(path)]
    found = [file for file in Path(path).iterdir() if file.suffix in _SUFFIXES]
    if not found:
        raise CheckpointError(
            f"{os.fspath(path)}: the directory holds no checkpoint",
            got=", ".join(sorted(file.name for file in Path(path).iterdir())[:10]) or "nothing",
            expected="files that end in " + ", ".join(_SUFFIXES),
            remedy="pass the directory that holds them, or one file",
        )

    def natural(file: Path) -> list[tuple[int, str]]:
        # Numbers in names count as numbers.
        return [
            (int(part), "") if part.isdecimal() else (-1, part)
            for part in re.split(r"(\d+)", file.name)
        ]

    return [os.fspath(file) for file in sorted(found, key=natural)]


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
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def load_checkpoint(
    model: nn.Module, path: str | os.PathLike[str], head: str | Sequence[str]
) -> Loaded:
    """Load weights into the model and say exactly what did not fit.

    Args:
        model: written into.
        path: a file of ``torch.save``; read with ``weights_only=True``.
        head: name of the fusion head, or of the links of a chain: their weights must all be there.

    Raises:
        CheckpointError: the file is unreadable or unsafe, or a weight of the head is missing.
    """
    parameters = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if lazy := [key for key, value in parameters.items() if is_lazy(value)]:
        raise CheckpointError(
            "the model holds lazy modules that have no shape yet",
            got=", ".join(lazy),
            expected="parameters that exist",
            remedy="let the factory run one batch through the model",
        )
    # Wrappers (DDP, torch.compile) may be on either side: compare the names without them.
    own = {unwrapped(k): (k, v) for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    given = {unwrapped(k): v for k, v in read_state_dict(path).items()}
    mismatched = tuple(
        f"{key} {list(given[key].shape)} for {list(own[key][1].shape)}"
        for key in given
        if key in own and given[key].shape != own[key][1].shape
    )
    fitting = {own[k][0]: v for k, v in given.items() if k in own and v.shape == own[k][1].shape}
    missing = tuple(key for key in own if key not in given)
    links = [unwrapped(name) for name in ([head] if isinstance(head, str) else head)]
    lost = [
        key
        for key, (name, _) in own.items()
        if name not in fitting and _belongs(key, links) and not key.endswith("num_batches_tracked")
    ]
    if lost or not fitting:
        shapes = [text for text in mismatched if _belongs(text, links)]
        near = "" if shapes or not lost else did_you_mean(lost[0], given)
        raise CheckpointError(
            f"{os.fspath(path)}: the checkpoint does not hold the weights of the head "
            + repr(" -> ".join(links)),
            got="; ".join(shapes) or f"{len(given)} weights, such as {', '.join([*given][:5])}",
            expected=", ".join(f"{key} {list(own[key][1].shape)}" for key in lost or own),
            remedy=near or "pass the checkpoint of this model, saved with its head",
        )
    model.load_state_dict(fitting, strict=False)
    unexpected = tuple(key for key in given if key not in own)
    counts = (len(fitting), missing, unexpected, mismatched)
    return Loaded(os.fspath(path), *counts, sha256(path))


def _belongs(key: str, links: Sequence[str]) -> bool:
    return any(not link or key.startswith(link + ".") for link in links)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a checkpoint, also when nested under ``state_dict`` or ``model``.

    Raises:
        CheckpointError: no such file, damaged, refused by ``weights_only=True``, no weights.
    """
    name = os.fspath(path)
    try:
        content = _read(Path(path))
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can raise anything
        blocked = re.findall(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and blocked:
            raise CheckpointError(
                f"{name}: the file holds more than weights and was not opened",
                got="blocked: " + ", ".join(blocked),
                expected="tensors, numbers, strings and containers (weights_only=True)",
                remedy="save model.state_dict() alone, since loading anything else can run code; "
                "if you trust the file: torch.save(torch.load(old, weights_only=False)"
                "['state_dict'], new)",
            ) from error
        raise CheckpointError(
            f"{name}: the checkpoint cannot be read",
            got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            expected="a file written by torch.save, or .safetensors",
            remedy="check the path and that the file is complete",
        ) from error
    weights = _weights(content)
    if not weights:
        inside = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"{name}: the file holds no weights",
            got=f"{type(content).__name__} {inside}".strip(),
            expected="a state dict, alone or under " + ", ".join(map(repr, _NESTS)),
            remedy="torch.save the state dict itself",
        )
    return weights


def _read(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file  # noqa: PLC0415  # needs the extra [safetensors]
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path}: safetensors is not installed",
            got=str(error),
            expected="the extra [safetensors]",
            remedy="pip install safetensors",
        ) from error
    return load_file(path)


def _weights(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """The tensors of a state dict; one that is nested wins over tensors beside it."""
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return {}
    for nest in _NESTS:
        if inner := _weights(content.get(nest), depth + 1):
            return inner
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
