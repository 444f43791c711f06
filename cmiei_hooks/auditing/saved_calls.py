"""Save the captured inputs of a head, and read them back: the head can be audited alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from .collect import SavedCall

__all__ = ["load_calls", "save_calls"]

_VERSION = 1


def save_calls(
    path: str | os.PathLike[str], origin: Mapping[str, str], calls: Sequence[SavedCall]
) -> None:
    """Write calls of a head; the file can be read with ``weights_only=True``.

    Args:
        path: of the file.
        origin: of which head, checkpoint and mode they are.
        calls: of the head.

    Raises:
        InputError: the head receives something that such a file cannot hold.
    """
    batches = []
    for saved in calls:
        args, kwargs = saved.call
        batches.append(
            {
                "args": [_plain(value) for value in args],
                "kwargs": {key: _plain(value) for key, value in kwargs.items()},
                "batch": saved.batch,
                "label": saved.label,
                "group": None if saved.group is None else list(saved.group),
                "with_null": saved.with_null,
            }
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save({"version": _VERSION, "origin": dict(origin), "batches": batches}, Path(path))


def load_calls(path: str | os.PathLike[str], origin: Mapping[str, str]) -> list[SavedCall]:
    """Read what ``save_calls`` wrote.

    Raises:
        CheckpointError: it is no such file, or of another head, checkpoint or mode.
    """
    name = os.fspath(path)
    try:
        content = torch.load(Path(path), map_location="cpu", weights_only=True)
        version, of, batches = content["version"], dict(content["origin"]), content["batches"]
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(
            f"{name}: the features cannot be read",
            got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            expected="a file written by --save-features",
            remedy="check the path and that the file is complete",
        ) from error
    other = {key: of.get(key, "") for key in origin if of.get(key) != origin[key]}
    if version != _VERSION or other:
        raise CheckpointError(
            f"{name}: the features are not those that this audit would record",
            got=", ".join(f"{key} {value}" for key, value in other.items()) or f"version {version}",
            expected=", ".join(f"{key} {origin[key]}" for key in other) or f"version {_VERSION}",
            remedy="audit as they were saved, or save them again",
        )
    return [
        SavedCall(
            (tuple(b["args"]), b["kwargs"]),
            b["batch"],
            b["label"],
            None if b["group"] is None else tuple(b["group"]),
            b["with_null"],
        )
        for b in batches
    ]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (Tensor, bool, int, float, str)):
        return value
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    raise InputError(
        "the features of this head cannot be saved",
        got=f"an argument of type {type(value).__name__}",
        expected="tensors, numbers, words, and lists, tuples and dicts of them",
        remedy="audit the model itself, without --save-features",
    )
