"""Which part of the head's input is which modality: how users write it, and how it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, SplitsError
from .arguments import Call, Path, describe, first_tensors, resolve, value_at, with_values

__all__ = ["Captured", "Partition", "Place", "Split", "default_names", "parse_modalities"]

Place = int | str | tuple[int, int]
"""One piece of a modality: an argument position or list index, a keyword or dict key, or the block
``(start, stop)`` of the first tensor."""

Split = int | tuple[Place, ...]
"""What one modality is: a width in one concatenated tensor, or the pieces that it owns."""


def parse_modalities(modalities: object) -> tuple[tuple[str, ...], tuple[Split, ...]]:
    """The names and pieces in ``modalities={name: place or places, ...}``.

    Raises:
        SplitsError: it is not such a mapping of two or more modalities.
    """
    if not isinstance(modalities, Mapping) or len(modalities) < 2:
        raise _refused("modalities= does not name two or more modalities", modalities)
    for name in modalities:
        if not isinstance(name, str) or not name:
            hint = "YAML reads yes, no, on and off as truth values: put the name in quotes"
            raise _refused(f"{name!r} is no name of a modality", modalities, hint)
    splits = {name: _places(name, value, modalities) for name, value in modalities.items()}
    names = tuple(splits)
    for m, name in enumerate(names):
        for other in names[:m]:
            if splits[name] == splits[other]:
                raise _refused(f"{other!r} and {name!r} are at the same places", modalities)
            _refuse_overlap(name, other, splits, modalities)
    return names, tuple(splits.values())


def _refuse_overlap(
    one: str, other: str, splits: Mapping[str, tuple[Place, ...]], modalities: object
) -> None:
    """Blocks may be shared; but (0, 3) and (1, 4) were meant as positions, or are a mistake."""
    for a in (place for place in splits[one] if isinstance(place, tuple)):
        for b in (place for place in splits[other] if isinstance(place, tuple)):
            if a != b and max(a[0], b[0]) < min(a[1], b[1]):
                raise _refused(
                    f"the blocks {b} of {other!r} and {a} of {one!r} overlap in part",
                    modalities,
                    "blocks are (start, stop) and are shared as a whole or not at all; argument "
                    "positions go in a list: [0, 3]",
                )


def _places(name: str, value: object, modalities: object) -> tuple[Place, ...]:
    # OmegaConf's list is a Sequence of its own.
    several = isinstance(value, Sequence) and not isinstance(value, (str, tuple))
    items: list[object] = list(value) if several else [value]  # type: ignore[call-overload]  # narrowed by `several`
    places = tuple(map(_place, items))
    found = tuple(place for place in places if place is not None)
    if len(found) < len(places) or not found:
        hint = "in YAML a block is a list in a list: [[0, 512]]" if isinstance(value, str) else ""
        raise _refused(f"{value!r} is no place of the modality {name!r}", modalities, hint)
    if len(set(found)) < len(found):
        raise _refused(f"a place of the modality {name!r} is named twice", modalities)
    return found


def _place(value: object) -> Place | None:
    if isinstance(value, str) and value and not value.startswith("("):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        start, stop = value
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        if whole and 0 <= start < stop:
            return start, stop
    return None


def _refused(problem: str, modalities: object, hint: str = "") -> SplitsError:
    return SplitsError(
        problem,
        got=f"modalities={modalities!r}",
        expected="{name: place, ...}; a place is an argument position or list index (0), a keyword "
        "or dict key ('rgb'), a block (start, stop) of one tensor, or a list of these",
        remedy=hint or "for example modalities={'r': [0, 3], 'n': [1, 4], 't': [2, 5]}",
    )


def default_names(count: int) -> tuple[str, ...]:
    """``r, n, t`` for three modalities (RGB, near-infrared, thermal), else ``m0, m1, ...``."""
    return ("r", "n", "t") if count == 3 else tuple(f"m{i}" for i in range(count))


@dataclass(frozen=True)
class _Piece:
    path: Path
    start: int | None = None
    stop: int | None = None
    """None: the whole tensor."""


@dataclass(frozen=True)
class Captured:
    """The modalities in one call of the head: for each a group of tensors or blocks ``[B, ...]``.

    Every tensor has the batch on its first axis.
    """

    call: Call
    tensors: dict[Path, Tensor]
    """The tensors of the call that hold the modalities."""
    groups: tuple[tuple[_Piece, ...], ...]
    dim: int

    @property
    def batch(self) -> int:
        """The number of samples."""
        return len(next(iter(self.tensors.values())))

    @property
    def device(self) -> torch.device:
        """Where the first of the tensors is."""
        return next(iter(self.tensors.values())).device

    def copies(self) -> dict[Path, Tensor]:
        """Clones of the tensors, with gradient, to be written into through ``views``."""
        return {path: tensor.clone() for path, tensor in self.tensors.items()}

    def views(self, tensors: Mapping[Path, Tensor], modality: int) -> Iterator[Tensor]:
        """The pieces of one modality in these tensors, as views."""
        for piece in self.groups[modality]:
            tensor = tensors[piece.path]
            if piece.start is None or piece.stop is None:
                yield tensor
            else:
                yield tensor.narrow(self.dim, piece.start, piece.stop - piece.start)

    def call_with(self, tensors: Mapping[Path, Tensor | None]) -> Call:
        """The call with other tensors; the caller's containers are not written into."""
        return with_values(self.call, tensors)


@dataclass(frozen=True)
class Partition:
    """The modalities in the input of a head.

    Either each is a width, and they stand one after the other on the axis ``dim`` of the first
    tensor argument; or each owns whole tensors of the call, or blocks of the first one.
    """

    splits: tuple[Split, ...]
    names: tuple[str, ...]
    dim: int = -1
    parameters: tuple[str, ...] = ()
    """The names of the parameters of the head's ``forward``."""

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim == 0:
            raise SplitsError(
                "modalities cannot be concatenated on this axis",
                got=f"dim={self.dim!r}",
                expected="the axis of the features, such as -1",
                remedy="axis 0 is the batch; leave dim out if the last axis is meant",
            )

    @property
    def widths(self) -> tuple[int, ...] | None:
        """The widths in one concatenated tensor; None if the modalities are given otherwise."""
        widths = tuple(split for split in self.splits if isinstance(split, int))
        return widths if len(widths) == len(self.splits) else None

    @property
    def plain(self) -> list[Any]:
        """The splits as numbers, words and lists."""
        return [
            split
            if isinstance(split, int)
            else [list(place) if isinstance(place, tuple) else place for place in split]
            for split in self.splits
        ]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Captured:
        """Find the modalities in a call.

        Raises:
            InputError: they are not there, not floating point, not of one batch, or the axis has
                another width.
        """
        call = (tuple(args), dict(kwargs))
        groups = tuple(
            tuple(self._piece(call, place, name) for place in self._places(m))
            for m, name in enumerate(self.names)
        )
        paths = dict.fromkeys(piece.path for group in groups for piece in group)
        tensors = {path: value_at(call, path) for path in paths}
        _check_batch(tensors)
        self._check_apart(groups)
        return Captured(call, tensors, groups, self.dim)

    def _check_apart(self, groups: Sequence[tuple[_Piece, ...]]) -> None:
        for m, group in enumerate(groups):
            twins = [n for n, other in zip(self.names, groups[:m], strict=False) if other == group]
            if twins:
                raise InputError(
                    f"the modalities {twins[0]!r} and {self.names[m]!r} are the same tensors",
                    got=f"{self.plain[self.names.index(twins[0])]} and {self.plain[m]}",
                    expected="different places in the arguments of the head",
                    remedy="correct one of the two",
                )

    def _places(self, modality: int) -> tuple[Place, ...]:
        split = self.splits[modality]
        if not isinstance(split, int):
            return split
        start = sum(self.widths[:modality]) if self.widths else 0
        return ((start, start + split),)

    def _piece(self, call: Call, place: Place, name: str) -> _Piece:
        if isinstance(place, tuple):
            path = self._concatenated(call)
            self._check_block(value_at(call, path), place, name)
            return _Piece(path, *place)
        found = resolve(call, place, self.parameters)
        value = None if found is None else value_at(call, found)
        if found is None or not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(
                f"the head was called without the modality {name!r}",
                got=("nothing" if found is None else describe(value))
                + f" at {place!r} of {describe(call[0])}, {describe(call[1])}",
                expected="a floating-point tensor [B, ...]",
                remedy="say with modalities= where the head receives it: an argument position, a "
                "keyword, an index of a list argument, or a key of a dict argument",
            )
        return _Piece(found)

    def _concatenated(self, call: Call) -> Path:
        found = first_tensors(call)
        if not found:
            raise InputError(
                "the head was called without a tensor",
                got=f"{describe(call[0])}, {describe(call[1])}",
                expected=f"one tensor that holds the modalities {list(self.names)}",
                remedy="name the module that receives the concatenated features as the head, or "
                "say with modalities= where in its arguments each modality is",
            )
        features: Tensor = value_at(call, found[0])
        axes = features.dim()
        if axes >= 2 and not -axes < self.dim < axes:
            raise SplitsError(
                "the input of the head has no such axis",
                got=f"dim={self.dim} for shape {list(features.shape)}",
                expected=f"an axis of the features, from 1 to {axes - 1}",
                remedy="correct dim, or leave it out if the last axis is meant",
            )
        if axes < 2 or not features.is_floating_point():
            raise InputError(
                "the head was not called with the features of a batch",
                got=f"{describe(features)}, dim={self.dim}",
                expected="a floating-point tensor [B, ...] with the modalities on the axis dim",
                remedy="name the module that receives the concatenated features as the head",
            )
        if self.widths is not None and features.shape[self.dim] != sum(self.widths):
            raise self._another_width(features, len(found))
        return found[0]

    def _another_width(self, features: Tensor, tensors: int) -> InputError:
        widths = self.widths or ()
        width = features.shape[self.dim]
        than = "narrower" if width < sum(widths) else "wider"
        return InputError(
            f"the input of the head is {than} than the splits",
            got=f"shape {list(features.shape)}: {width} on axis {self.dim}",
            expected=f"{' + '.join(map(str, widths))} = {sum(widths)}",
            remedy=f"the head was called with {tensors} tensors: if each is a modality, say so "
            "with modalities={name: position, ...} instead of splits"
            if tensors > 1
            else "pass the widths of the modalities in the order of their concatenation",
        )

    def _check_block(self, features: Tensor, block: tuple[int, int], name: str) -> None:
        width = features.shape[self.dim]
        if block[1] > width:
            raise InputError(
                f"a block of the modality {name!r} is not in the input of the head",
                got=f"{block} of shape {list(features.shape)}: {width} on axis {self.dim}",
                expected=f"(start, stop) with stop <= {width}",
                remedy="correct the block, or dim",
            )


def _check_batch(tensors: Mapping[Path, Tensor]) -> None:
    if all(t.dim() for t in tensors.values()) and len({len(t) for t in tensors.values()}) == 1:
        return
    raise InputError(
        "the modalities are not tensors of one batch",
        got="shapes " + ", ".join(str(list(tensor.shape)) for tensor in tensors.values()),
        expected="[B, ...] with the same B",
        remedy="name a head whose inputs all have the batch on their first axis",
    )
