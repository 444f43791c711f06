"""Which part of one call of the head is which modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

from ..errors import InputError, SplitsError
from .apart import on_the_batch_axis
from .arguments import describe, first_tensors, places_of_tensors, resolve
from .captured_call import Captured, Slice
from .concatenation import find_concatenation
from .fill import refuse_needless_fill, refuse_without_fill
from .modalities import Location, Split
from .pytree import Call, Path, value_at
from .tensor_kinds import holds_whole_numbers, refuse_kind

__all__ = ["MissingModalityError", "Partition"]


class MissingModalityError(InputError):
    """A call lacks a modality. A batch may be incomplete, or the location is wrong."""

    absent: frozenset[Location] = frozenset()
    """The locations that the call does not have. One that holds None is there."""


@dataclass(frozen=True)
class Partition:
    """The modalities in the input of a head.

    Either each is a width, and they stand one after the other on the axis ``dim`` of the first
    tensor; or each owns whole tensors of the call, or blocks of the first one.
    """

    splits: tuple[Split, ...]
    names: tuple[str, ...]
    dim: int = -1
    parameters: tuple[str, ...] = ()
    """The names of the parameters of the head's ``forward``."""
    optional: frozenset[str] = frozenset()
    """Those whose default is None: a modality that is not passed is missing."""
    fill: Mapping[str, int] = field(default_factory=dict)
    """By the name of a modality, what takes the place of whole numbers (token ids) in it."""

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int):
            raise SplitsError(
                "dim is not an axis",
                got=f"dim={self.dim!r}",
                expected="the number of an axis of the features, such as -1",
                remedy="leave dim out if the last axis is meant",
            )
        if self.dim == 0:
            raise on_the_batch_axis("dim=0")

    @property
    def widths(self) -> tuple[int | None, ...] | None:
        """The widths in one concatenated tensor; None if the modalities are given otherwise."""
        widths = tuple(split for split in self.splits if not isinstance(split, tuple))
        return widths if len(widths) == len(self.splits) else None

    @property
    def width(self) -> int | None:
        """The sum of the widths; None if one is free, or there are none."""
        known = [width for width in self.widths or () if width is not None]
        return sum(known) if len(known) == len(self.splits) else None

    @property
    def plain(self) -> list[Any]:
        """The splits as numbers, words and lists; None is the rest."""
        return [
            [list(x) if isinstance(x, tuple) else x for x in split]
            if isinstance(split, tuple)
            else split
            for split in self.splits
        ]

    @property
    def described(self) -> str:
        """The modalities with their splits, as text."""
        texts = ("the rest" if split is None else str(split) for split in self.plain)
        return ", ".join(f"{name} {text}" for name, text in zip(self.names, texts, strict=True))

    @property
    def arithmetic(self) -> str:
        """The sum of the widths, as text."""
        terms = ("rest" if width is None else str(width) for width in self.widths or ())
        total = f"{self._least} or more" if self.width is None else str(self.width)
        return f"{' + '.join(terms)} = {total}"

    def fits(self, width: int) -> bool:
        """Whether a tensor of this width on ``dim`` holds the widths or blocks."""
        if self.width is not None:
            return width == self.width
        return width >= self._least

    @property
    def _least(self) -> int:
        """The smallest width of the one tensor; the rest has one column or more."""
        if self.widths is not None:
            return sum(1 if width is None else width for width in self.widths)
        return max((stop for _, stop in self._written_blocks()), default=0)

    def _written_blocks(self) -> Iterator[tuple[int, int]]:
        for split in self.splits:
            for location in split if isinstance(split, tuple) else ():
                if isinstance(location, tuple):
                    yield location

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Captured:
        """Find the modalities in a call.

        Raises:
            MissingModalityError: one is not there, or is None.
            InputError: one is not a dense floating-point tensor, they are not of one batch, or the
                axis has another width.
        """
        call = (tuple(args), dict(kwargs))
        whole = self.widths is not None or next(self._written_blocks(), None) is not None
        path = self._concatenated(call) if whole else ()
        self._refuse_missing(call)
        groups = tuple(
            tuple(
                self._block(call, path, location, name)
                if isinstance(location, tuple)
                else Slice(self._tensor(call, location, name))
                for location in locations
            )
            for name, locations in zip(self.names, self._locations(call, path), strict=True)
        )
        tensors = {one.path: value_at(call, one.path) for group in groups for one in group}
        self._check_batch(call, tensors, groups)
        self._check_apart(groups)
        for name, group in zip(self.names, groups, strict=True):
            refuse_needless_fill(name, [tensors[one.path] for one in group], self.fill)
        return Captured(call, tensors, groups, self.dim, tuple(map(self.fill.get, self.names)))

    def _locations(self, call: Call, path: Path) -> Sequence[tuple[Location, ...]]:
        """The locations of each modality, widths as blocks."""
        if self.widths is None:
            return [split for split in self.splits if isinstance(split, tuple)]
        rest = value_at(call, path).shape[self.dim] - sum(w for w in self.widths if w is not None)
        widths = (rest if width is None else width for width in self.widths)
        return [(block,) for block in pairwise(accumulate(widths, initial=0))]

    def _refuse_missing(self, call: Call) -> None:
        """Refuse a call without one of the tensors that are modalities as a whole."""
        nothing: dict[Location, tuple[str, Path | None]] = {}
        for name, split in zip(self.names, self.splits, strict=True):
            for location in split if isinstance(split, tuple) else ():
                if isinstance(location, tuple):
                    continue
                path = resolve(call, location, self.parameters)
                if path is None or value_at(call, path) is None:
                    nothing[location] = name, path
        if not nothing:
            return
        # One that is not there tells more than one that is None.
        location = min(nothing, key=lambda one: nothing[one][1] is not None)
        name, path = nothing[location]
        found = "nothing" if path is None else "None"
        error = self._missing(name, f"{found} at {location!r}", call)
        error.absent = frozenset(
            at
            for at, (_, path) in nothing.items()
            if path is None and not self._is_omitted(at, call)
        )
        raise error

    def _missing(self, name: str, got: str, call: Call) -> MissingModalityError:
        return MissingModalityError(
            f"the head was called without the modality {name!r}",
            got=f"{got} of {describe(call[0])}, {describe(call[1])}",
            expected=self._expected(call),
            remedy=_WHERE,
        )

    def _expected(self, call: Call) -> str:
        places = places_of_tensors(call, self.parameters)
        return f"a floating-point tensor [B, ...]; there are tensors at {places}"

    def _is_omitted(self, location: Location, call: Call) -> bool:
        """Whether its argument is not passed, and the head takes None for it."""
        argument = str(location).split(".")[0]
        if argument.isdecimal() and int(argument) < len(self.parameters):
            argument = self.parameters[int(argument)]
        return argument in self.optional and resolve(call, argument, self.parameters) is None

    def _tensor(self, call: Call, location: int | str, name: str) -> Path:
        """The path of a tensor that is a modality as a whole."""
        path = resolve(call, location, self.parameters)
        value = None if path is None else value_at(call, path)
        if path is None or not isinstance(value, Tensor):
            raise InputError(
                f"the modality {name!r} is not a tensor",
                got=f"{describe(value)} at {location!r} of {describe(call[0])}, "
                f"{describe(call[1])}",
                expected=self._expected(call),
                remedy=_WHERE,
            )
        if not holds_whole_numbers(value):
            refuse_kind(value, f"the modality {name!r}")
        else:
            refuse_without_fill(value, name, self.fill)
        return path

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
        """The path of the tensor that holds all modalities, or the blocks."""
        found = first_tensors(call)
        if not found:
            error = MissingModalityError(
                "the head was called without a tensor",
                got=f"{describe(call[0])}, {describe(call[1])}",
                expected=f"one tensor that holds the modalities {list(self.names)}",
                remedy="name the module that receives the concatenated features as the head, or "
                "say with modalities= where in its arguments each modality is",
            )
            error.absent = frozenset({"the concatenated tensor"})
            raise error
        likely = None if None in self.splits else self._least
        path = find_concatenation(call, found, self.dim, self.fits, likely)
        features: Tensor = value_at(call, path)
        refuse_kind(features, "the input of the head")
        axes = features.dim()
        if axes >= 2 and self.dim == -axes:
            raise on_the_batch_axis(f"dim={self.dim} for shape {list(features.shape)}")
        if axes >= 2 and not -axes < self.dim < axes:
            raise SplitsError(
                "the input of the head has no such axis",
                got=f"dim={self.dim} for shape {list(features.shape)}",
                expected=f"an axis of the features, from 1 to {axes - 1}",
                remedy="correct dim, or leave it out if the last axis is meant",
            )
        if axes < 2:
            raise InputError(
                "the head was not called with the features of a batch",
                got=f"{describe(features)}, dim={self.dim}",
                expected="a floating-point tensor [B, ...] with the modalities on the axis dim",
                remedy="name the module that receives the concatenated features as the head",
            )
        if self.widths is not None and not self.fits(features.shape[self.dim]):
            raise self._another_width(features, len(found))
        return path

    def _another_width(self, features: Tensor, tensors: int) -> InputError:
        widths, width = self.widths or (), features.shape[self.dim]
        got = f"shape {list(features.shape)}: {width} on axis {self.dim}"
        if self.width is None:
            rest = self.names[widths.index(None)]
            # Nothing at all is left where a batch lacks the modality.
            kind = MissingModalityError if width == self._least - 1 else InputError
            return kind(
                f"the input of the head has no column left for the modality {rest!r}",
                got=f"{got}, which leaves {width} - {self._least - 1} = {width - self._least + 1}",
                expected=self.arithmetic,
                remedy="correct the other widths, or dim",
            )
        remedy = "pass the widths of the modalities in the order of their concatenation"
        if tensors > 1:
            remedy = f"the head was called with {tensors} tensors: if each is a modality, say so "
            remedy += "with modalities={name: position, ...} instead of splits"
        elif features.dim() > 2:
            remedy += "; None stands for one that varies from call to call"
        than = "narrower" if width < self._least else "wider"
        return InputError(
            f"the input of the head is {than} than the splits",
            got=got,
            expected=self.arithmetic,
            remedy=remedy,
        )

    def _check_batch(
        self, call: Call, tensors: Mapping[Path, Tensor], groups: Sequence[tuple[Slice, ...]]
    ) -> None:
        sizes = {path: len(tensor) if tensor.dim() else -1 for path, tensor in tensors.items()}
        if len(set(sizes.values())) == 1 and -1 not in sizes.values():
            return
        if min(sizes.values()) == 0 and len(set(sizes.values())) == 2:
            for name, group in zip(self.names, groups, strict=True):
                if any(not sizes[one.path] for one in group):
                    raise self._missing(name, "a tensor without samples", call)
        raise InputError(
            "the modalities are not tensors of one batch",
            got="shapes " + ", ".join(str(list(tensor.shape)) for tensor in tensors.values()),
            expected="[B, ...] with the same B",
            remedy="name a head whose inputs all have the batch on their first axis",
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


_WHERE = (
    "say with modalities= where the head receives it: an argument position, a keyword, an index of "
    "a list argument, a key of a dict argument, or a path into an argument such as 'text.0'"
)
