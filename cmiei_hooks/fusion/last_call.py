"""Where the last call of a head had its modalities: one of the same shapes has them there, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .captured_call import Captured
from .pytree import Path, value_at
from .tensor_kinds import is_dense

__all__ = ["LastCall"]

_Kinds = tuple[tuple[torch.Size, torch.dtype], ...]


class LastCall:
    """Reads a call that is like the last one; looking for the modalities again takes much longer.

    What ``Partition.read`` finds in plain, dense tensors depends on their shapes and types alone.
    No tensor is kept.
    """

    def __init__(self) -> None:
        self._kinds: _Kinds | None = None
        self._paths: tuple[Path, ...] = ()
        self._rest: tuple[Any, ...] = ()
        """The other fields of ``Captured``."""

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Captured | None:
        """The modalities of the call; None if it is not like the last one."""
        if self._kinds is None or self._kinds != _kinds(args, kwargs):
            return None
        call = (tuple(args), dict(kwargs))
        tensors = {path: value_at(call, path) for path in self._paths}
        return Captured(call, tensors, *self._rest)

    def keep(self, captured: Captured) -> None:
        """Remember a call."""
        self._kinds = _kinds(*captured.call)
        self._paths = tuple(captured.tensors)
        self._rest = (captured.groups, captured.dim, captured.fills)


def _kinds(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Kinds | None:
    """Of the arguments; None for any but plain, dense tensors by position."""
    if kwargs or any(type(x) is not Tensor or not is_dense(x) for x in args):
        return None
    return tuple((x.shape, x.dtype) for x in args)
