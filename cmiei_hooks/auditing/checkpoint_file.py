"""Checkpoint files: find them in a directory, and read the weights in one safely."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, did_you_mean, missing_extra

__all__ = ["checkpoints_in", "read_state_dict"]

_NESTS = ("state_dict", "model", "model_state_dict", "module")
_DEPTH = 3
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


def read_state_dict(path: str | os.PathLike[str], weights: str | None = None) -> dict[str, Tensor]:
    """The weights in a checkpoint, also when nested under ``state_dict`` or ``model``.

    Args:
        path: the file.
        weights: take those under this top-level key, or those whose names begin with this prefix
            (which is removed): ``ema`` for ``{"ema": {...}}`` and for ``ema.classifier.weight``.

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
            remedy=_near(Path(path)) or "check the path and that the file is complete",
        ) from error
    found = _weights(content)
    if weights is not None:
        return _chosen(name, content, found, weights)
    if not found:
        inside = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"{name}: the file holds no weights",
            got=f"{type(content).__name__} {inside}".strip(),
            expected="a state dict, alone or under " + ", ".join(map(repr, _NESTS)),
            remedy="torch.save the state dict itself",
        )
    return found


def _near(path: Path) -> str:
    """What may be meant by a path where nothing is."""
    if path.exists() or not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, [beside.name for beside in path.parent.iterdir()])


def _chosen(
    name: str, content: Any, found: Mapping[str, Tensor], weights: str
) -> dict[str, Tensor]:
    """The weights under a top-level key; else those with the prefix, which is removed."""
    under = _weights(content.get(weights)) if isinstance(content, Mapping) else {}
    prefix = weights.rstrip(".") + "."
    chosen = under or {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    if chosen:
        return chosen
    nested = isinstance(content, Mapping)
    keys = [str(key) for key, value in content.items() if _weights(value)] if nested else []
    known = list(dict.fromkeys([*keys, *(key.split(".")[0] for key in found)]))
    raise CheckpointError(
        f"{name}: the checkpoint has no weights {weights!r}",
        got=repr(weights),
        expected="a top-level key or a prefix of the names, such as "
        + ", ".join(map(repr, known[:10])),
        remedy=did_you_mean(weights, known) or "leave weights= (--weights) out for the usual ones",
    )


def _read(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file  # noqa: PLC0415  # needs the extra [safetensors]
    except ModuleNotFoundError as error:
        problem = f"{path}: safetensors is not installed"
        raise missing_extra("safetensors", problem, error, CheckpointError) from error
    return load_file(path)


def _weights(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """The tensors of a state dict; one that is nested wins over tensors beside it."""
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return {}
    for nest in _NESTS:
        if inner := _weights(content.get(nest), depth + 1):
            return inner
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
