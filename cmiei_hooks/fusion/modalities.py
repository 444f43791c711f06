"""Where each modality is in the input of the head: as users write it, and in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import InputError, SplitsError
from .arguments import describe, first_tensors, resolve
from .captured_call import Captured, Slice
from .pytree import Call, Path, value_at

__all__ = [
    "Location",
    "Partition",
    "Split",
    "default_names",
    "parse_modalities",
]

Location = int | str | tuple[int, int]
"""Where a tensor or a block is: an argument position or list index, a keyword or dict key, or the
block ``(start, stop)`` of the first tensor."""

Split = int | tuple[Location, ...]
"""One modality: its width in one concatenated tensor, or the locations of its tensors or blocks."""


def default_names(count: int) -> tuple[str, ...]:
    """``r, n, t`` for three modalities (RGB, near-infrared, thermal), else ``m0, m1, ...``."""
    return ("r", "n", "t") if count == 3 else tuple(f"m{i}" for i in range(count))


def parse_modalities(modalities: object) -> tuple[tuple[str, ...], tuple[Split, ...]]:
    """The names and locations in ``modalities={name: location or locations, ...}``.

    Raises:
        SplitsError: it is not such a mapping of two or more modalities.
    """
    if not isinstance(modalities, Mapping) or len(modalities) < 2:
        raise _refused("modalities= does not name two or more modalities", modalities)
    for name in modalities:
        if not isinstance(name, str) or not name:
            hint = "YAML reads yes, no, on and off as truth values: put the name in quotes"
            raise _refused(f"a modality cannot be named {name!r}", modalities, hint)
    splits = {name: _locations(name, value, modalities) for name, value in modalities.items()}
    names = tuple(splits)
    for m, name in enumerate(names):
        for other in names[:m]:
            if splits[name] == splits[other]:
                raise _refused(f"{other!r} and {name!r} have the same location", modalities)
            _refuse_overlap(name, other, splits, modalities)
    return names, tuple(splits.values())


def _refuse_overlap(
    one: str, other: str, splits: Mapping[str, tuple[Location, ...]], modalities: object
) -> None:
    """Blocks may be shared; but (0, 3) and (1, 4) were meant as positions, or are a mistake."""
    for a in (location for location in splits[one] if isinstance(location, tuple)):
        for b in (location for location in splits[other] if isinstance(location, tuple)):
            if a != b and max(a[0], b[0]) < min(a[1], b[1]):
                raise _refused(
                    f"the blocks {b} of {other!r} and {a} of {one!r} overlap",
                    modalities,
                    "modalities share a whole block or none of it; a block is (start, stop); "
                    "argument positions go in a list: [0, 3]",
                )


def _locations(name: str, value: object, modalities: object) -> tuple[Location, ...]:
    # OmegaConf's list is a Sequence of its own.
    several = isinstance(value, Sequence) and not isinstance(value, (str, tuple))
    items: list[object] = list(value) if several else [value]  # type: ignore[call-overload]  # narrowed by `several`
    read = tuple(map(_location, items))
    found = tuple(location for location in read if location is not None)
    if len(found) < len(read) or not found:
        hint = "in YAML a block is a list in a list: [[0, 512]]" if isinstance(value, str) else ""
        raise _refused(f"{value!r} is not a location of the modality {name!r}", modalities, hint)
    if len(set(found)) < len(found):
        raise _refused(f"a location of the modality {name!r} is given twice", modalities)
    return found


def _location(value: object) -> Location | None:
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
        expected="{name: location, ...}; a location is an argument position or list index (0), a "
        "keyword or dict key ('rgb'), a block (start, stop) of one tensor, or a list of these",
        remedy=hint or "for example modalities={'r': [0, 3], 'n': [1, 4], 't': [2, 5]}",
    )


@dataclass(frozen=True)
class Partition:
    """The modalities in the input of a head.

    Either each modality is a width, and they lie side by side on the axis ``dim`` of the first
    tensor argument; or each is some whole tensors of the call, or blocks of the first one.
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
            else [list(x) if isinstance(x, tuple) else x for x in split]
            for split in self.splits
        ]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Captured:
        """Find the modalities in a call.

        Raises:
            InputError: they are not there, not floating point, not of one batch, or the axis has
                another width.
        """
        call = (tuple(args), dict(kwargs))
        whole = any(
            isinstance(x, tuple) for m in range(len(self.names)) for x in self._locations(m)
        )
        path = self._concatenated(call) if whole else ()
        groups = tuple(
            tuple(
                self._block(call, path, location, name)
                if isinstance(location, tuple)
                else Slice(self._tensor(call, location, name))
                for location in self._locations(m)
            )
            for m, name in enumerate(self.names)
        )
        tensors = {one.path: value_at(call, one.path) for group in groups for one in group}
        _check_batch(tensors)
        self._check_apart(groups)
        return Captured(call, tensors, groups, self.dim)

    def _locations(self, modality: int) -> tuple[Location, ...]:
        split = self.splits[modality]
        if not isinstance(split, int):
            return split
        start = sum(self.widths[:modality]) if self.widths else 0
        return ((start, start + split),)

    def _tensor(self, call: Call, location: int | str, name: str) -> Path:
        """The path of a tensor that is a modality as a whole."""
        found = resolve(call, location, self.parameters)
        value = None if found is None else value_at(call, found)
        if found is None or not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(
                f"the head was called without the modality {name!r}",
                got=("nothing" if found is None else describe(value))
                + f" at {location!r} of {describe(call[0])}, {describe(call[1])}",
                expected="a floating-point tensor [B, ...]",
                remedy="say with modalities= where the head receives it: an argument position, a "
                "keyword, an index of a list argument, or a key of a dict argument",
            )
        return found

    def _block(self, call: Call, path: Path, block: tuple[int, int], name: str) -> Slice:
        shape = value_at(call, path).shape
        if block[1] > shape[self.dim]:
            raise InputError(
                f"a block of the modality {name!r} is not in the input of the head",
                got=f"{block} of shape {list(shape)}: {shape[self.dim]} on axis {self.dim}",
                expected=f"(start, stop) with stop <= {shape[self.dim]}",
                remedy="correct the block, or dim",
            )
        return Slice(path, *block)

    def _concatenated(self, call: Call) -> Path:
        """The path of the tensor that holds all modalities."""
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

    def _check_apart(self, groups: Sequence[tuple[Slice, ...]]) -> None:
        for m, group in enumerate(groups):
            if group in groups[:m]:
                first = groups.index(group)
                raise InputError(
                    f"the modalities {self.names[first]!r} and {self.names[m]!r} are the same "
                    "tensors",
                    got=f"{self.plain[first]} and {self.plain[m]}",
                    expected="different locations in the arguments of the head",
                    remedy="correct one of the two",
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
