"""Save the captured inputs of a head, and read them back: the head can be audited alone."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..fusion import Head
from ..reporting import whole_file
from .checkpoint_loading import Loaded
from .offloaded import offloaded_weights
from .options import AuditOptions
from .saved_call import SavedCall

__all__ = ["load_calls", "origin_of", "save_calls"]

_VERSION = 2


def origin_of(
    model: nn.Module, head: Head, loaded: Loaded | None, options: AuditOptions
) -> dict[str, str]:
    """What saved features must have in common with the audit that reads them."""
    return {
        "head": head.name,
        "checkpoint": _digest(model) if loaded is None else loaded.sha256,
        "mode": options.mode,
        "amp": str(options.amp),
    }


def _digest(model: nn.Module) -> str:
    """A checksum of the weights themselves, for a model that was not loaded from a file."""
    digest = hashlib.sha256()
    for name, value in {**model.state_dict(), **offloaded_weights(model)}.items():
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
            content = value.detach().cpu().contiguous()
            size = content.numel() * content.element_size()
            digest.update(f"{name} {content.dtype} {list(content.shape)} ".encode())
            digest.update(ctypes.string_at(content.data_ptr(), size))
    return digest.hexdigest()


def save_calls(
    path: str | os.PathLike[str], origin: Mapping[str, str], calls: Sequence[SavedCall]
) -> None:
    """Write calls of a head; the file can be read with ``weights_only=True``.

    Args:
        path: the file.
        origin: what the calls were recorded from; see ``origin_of``.
        calls: the calls of the head.

    Raises:
        InputError: the head receives something that such a file cannot hold.
    """
    batches = []
    for saved in calls:
        args, kwargs = saved.call
        _refuse_unsavable([*args, *kwargs.values()])
        batches.append(
            {
                "args": list(args),
                "kwargs": kwargs,
                "batch": saved.batch,
                "label": saved.label,
                "group": None if saved.group is None else list(saved.group),
                "fingerprint": saved.fingerprint,
                "with_null": saved.with_null,
            }
        )
    with whole_file(Path(path)) as file, file.open("wb") as stream:
        torch.save({"version": _VERSION, "origin": dict(origin), "batches": batches}, stream)


def load_calls(path: str | os.PathLike[str], origin: Mapping[str, str]) -> list[SavedCall]:
    """Read what ``save_calls`` wrote.

    Raises:
        CheckpointError: it is not such a file, or was recorded from another head, checkpoint or
            mode.
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
            f"{name}: the features were recorded by a different audit",
            got=", ".join(f"{key} {value}" for key, value in other.items()) or f"version {version}",
            expected=", ".join(f"{key} {origin[key]}" for key in other) or f"version {_VERSION}",
            remedy="audit with the options with which they were saved, or save them again",
        )
    return [
        SavedCall(
            (tuple(b["args"]), b["kwargs"]),
            b["batch"],
            b["label"],
            None if b["group"] is None else tuple(b["group"]),
            b["fingerprint"],
            b["with_null"],
        )
        for b in batches
    ]


def _refuse_unsavable(values: Iterable[Any]) -> None:
    for value in values:
        if type(value) in (list, tuple):
            _refuse_unsavable(value)
        elif type(value) is dict:
            _refuse_unsavable(value.values())
        elif not (value is None or isinstance(value, (Tensor, bool, int, float, str))):
            raise InputError(
                "the features of this head cannot be saved",
                got=f"an argument of type {type(value).__name__}",
                expected="tensors, numbers, words, and lists, tuples and dicts of them",
                remedy="audit the model itself, without --save-features",
            )
