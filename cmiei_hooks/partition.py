"""Which part of the head's input is which modality: find it, cut it, join it, put it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InputError, SplitsError

__all__ = ["Partition", "Place", "default_names", "put_back"]

Place = int | str
"""Where the tensor stands in a call: a position in ``args`` or a key of ``kwargs``."""


def default_names(count: int) -> tuple[str, ...]:
    """``r, n, t`` for three modalities (RGB, near-infrared, thermal), else ``m0, m1, ...``."""
    return ("r", "n", "t") if count == 3 else tuple(f"m{i}" for i in range(count))


@dataclass(frozen=True)
class Partition:
    """Modalities that stand one after the other on the axis ``dim`` of one tensor ``[B, ...]``."""

    splits: tuple[int, ...]
    names: tuple[str, ...]
    dim: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim == 0:
            raise SplitsError(
                "modalities cannot be concatenated on this axis",
                got=f"dim={self.dim!r}",
                expected="the axis of the features, such as -1",
                remedy="axis 0 is the batch; leave dim out if the last axis is meant",
            )

    @property
    def width(self) -> int:
        """The size that the axis ``dim`` must have."""
        return sum(self.splits)

    def find(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Place, Tensor]:
        """The first tensor of a call, positional before keyword, and where it stands.

        Raises:
            InputError: there is no tensor, it is not floating point, or the axis has another width.
        """
        places: list[tuple[Place, Any]] = [*enumerate(args), *kwargs.items()]
        tensors = [(place, value) for place, value in places if isinstance(value, Tensor)]
        if tensors:
            self._check(tensors[0][1], len(tensors))
            return tensors[0]
        raise InputError(
            "the head was called without a tensor",
            got=", ".join(type(value).__name__ for _, value in places) or "no argument",
            expected=f"one tensor that holds the modalities {list(self.names)}",
            remedy="name the module that receives the concatenated features as the head",
        )

    def _check(self, features: Tensor, tensors: int) -> None:
        axes = features.dim()
        if axes < 2 or not -axes < self.dim < axes or not features.is_floating_point():
            raise InputError(
                "the head was not called with the features of a batch",
                got=f"{features.dtype} of shape {list(features.shape)}, dim={self.dim}",
                expected="a floating-point tensor [B, ...] with the modalities on the axis dim",
                remedy="name the module that receives the concatenated features as the head",
            )
        width = features.shape[self.dim]
        if width != self.width:
            than = "narrower" if width < self.width else "wider"
            sums = " + ".join(map(str, self.splits))
            raise InputError(
                f"the input of the head is {than} than the splits",
                got=f"shape {list(features.shape)}: {width} on axis {self.dim}",
                expected=f"{sums} = {self.width}",
                remedy=f"the head was called with {tensors} tensors: name a head that receives all "
                "modalities concatenated in one"
                if tensors > 1
                else "pass the widths of the modalities in the order of their concatenation",
            )

    def blocks(self, features: Tensor) -> list[Tensor]:
        """One view of ``features`` for each modality."""
        return list(torch.split(features, list(self.splits), self.dim))

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """The inverse of ``blocks``, as a new tensor."""
        return torch.cat(list(blocks), self.dim)

    def join_with(self, blocks: Sequence[Tensor], modality: int, block: Tensor) -> Tensor:
        """Join with one modality replaced; the given blocks are not touched."""
        return self.join([block if m == modality else b for m, b in enumerate(blocks)])


def put_back(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: Place, features: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with other features; the caller's containers are not written into."""
    if isinstance(place, int):
        return (*args[:place], features, *args[place + 1 :]), kwargs
    return args, {**kwargs, place: features}
