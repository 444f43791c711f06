"""How the input of a module divides into modalities, in the words of ``attach``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise, product
from typing import Any

from ..fusion import Field
from .attribution import AttributedTensor, ModalitySet, ModuleCall

__all__ = ["Layout", "Widths", "find_layout", "listed", "rows_of_one_modality"]

Widths = Mapping[ModalitySet, Set[int]]
"""The widths that the features of each set of modalities had when a module returned them."""


@dataclass(frozen=True)
class Layout:
    """Where the input of a module holds each modality: ``splits``, or else ``modalities``."""

    names: tuple[str, ...]
    """In the order of the columns."""
    splits: tuple[int, ...] | None
    modalities: dict[str, Any] | None
    dim: int
    penalty: int
    """0 if every modality is separate and nothing is guessed; candidates are ranked by it."""
    description: str


@dataclass(frozen=True)
class _Segment:
    """Neighbouring columns that the same modalities change."""

    modalities: ModalitySet
    start: int
    stop: int


def find_layout(
    call: ModuleCall, names: Sequence[str], alive: ModalitySet, widths: Widths
) -> Layout | str | None:
    """The layout of the input of one call.

    Args:
        call: which module, and which of its calls.
        names: of all modalities.
        alive: the modalities that change what the model returns.
        widths: used to find boundaries among columns that no modality changes.

    Returns:
        The layout; a text that says why there is none; or None if the input does not hold all
        modalities.
    """
    tensors = [tensor for tensor in call.inputs if tensor.modalities and tensor.floating]
    held = _union(tensor.modalities for tensor in tensors)
    # Integers, such as masks, have no mean: they are never substituted.
    integers = _union(tensor.modalities for tensor in call.inputs if not tensor.floating)
    if not tensors or not alive <= held | integers:
        return None
    if any(tensor.noisy for tensor in tensors):
        return "its input differs between two runs with the same inputs"
    if len(tensors) == 1:
        found = _one_tensor(call, tensors[0], names, widths)
    else:
        found = _several_tensors(call, tensors, names)
    missing = alive - held
    if isinstance(found, str) or not missing:
        return found
    description = (
        f"{found.description}; {_name(missing, names)} is an integer tensor: left as it is"
    )
    return dataclasses.replace(found, penalty=found.penalty + 1, description=description)


def _several_tensors(
    call: ModuleCall, tensors: Sequence[AttributedTensor], names: Sequence[str]
) -> Layout | str:
    sets = {tensor.modalities for tensor in tensors}
    if not _disjoint(sets) or len(sets) < 2:
        return _mixed(sets, names)
    words = _words(call, tensors)
    if words is None:
        addresses = ", ".join(".".join(map(str, tensor.address)) for tensor in tensors)
        return f"modalities= cannot name where its tensors are ({addresses})"
    groups: dict[str, list[Any]] = {}
    for tensor, word in zip(tensors, words, strict=True):
        groups.setdefault(_name(tensor.modalities, names), []).append(word)
    modalities = {name: at if len(at) > 1 else at[0] for name, at in groups.items()}
    description = f"{len(tensors)} tensors, each of one modality{_merged_text(sets, names)}"
    return Layout(tuple(groups), None, modalities, -1, _merged(sets), description)


def _words(call: ModuleCall, tensors: Sequence[AttributedTensor]) -> list[Any] | None:
    """What ``modalities=`` calls the locations of these tensors; None if it cannot name them."""
    addresses = [tensor.address for tensor in tensors]
    only = {tensor.address[0] for tensor in call.inputs} == {addresses[0][0]}
    if only and all(len(at) == 2 and not isinstance(at[1], Field) for at in addresses):
        return [at[1] for at in addresses]  # a key or an index is enough
    # A number is a position, unless the first argument is a list: then it is one of its items.
    listed_first = any(len(tensor.address) > 1 for tensor in call.inputs if tensor.address[0] == 0)
    behind = any(len(at) == 1 and isinstance(at[0], int) for at in addresses)
    if (listed_first and behind) or any("." in str(key) for at in addresses for key in at):
        return None
    return [at[0] if len(at) == 1 else ".".join(map(str, at)) for at in addresses]


def _one_tensor(
    call: ModuleCall, tensor: AttributedTensor, names: Sequence[str], widths: Widths
) -> Layout | str:
    if len(tensor.shape) < 2:
        return "its input is not a tensor [B, D] of features"
    if len(tensor.address) > 1 or tensor is not call.inputs[0]:
        return "the tensor with the modalities is not its first argument"
    if stacked := rows_of_one_modality(tensor, names):
        return stacked
    found: Layout | str = ""
    for axis in sorted(tensor.columns):
        segments = _segments(tensor.columns[axis])
        found = _on_axis(segments, axis, tensor.shape[axis], names, widths)
        if isinstance(found, Layout):
            return found
    return found or _mixed({tensor.modalities}, names)


def rows_of_one_modality(tensor: AttributedTensor, names: Sequence[str]) -> str:
    """What is seen if the modalities are stacked on the batch axis; empty if they are not."""
    segments = [segment for segment in _segments(tensor.rows) if segment.modalities]
    sets = {segment.modalities for segment in segments}
    if len(sets) < 2 or any(len(one) > 1 for one in sets):
        return ""
    found = f"each modality has rows of its own in its input, {list(tensor.shape)}"
    if len(segments) == len(sets):
        ranges = [f"{_name(s.modalities, names)} {s.start}-{s.stop}" for s in segments]
        found += f": {' | '.join(ranges)}"
    return f"{found}. They are stacked on the batch axis, and no row combines them"


def _on_axis(
    segments: list[_Segment], axis: int, width: int, names: Sequence[str], widths: Widths
) -> Layout | str:
    # A token that no modality changes is a class token and belongs to none of them. A feature that
    # no modality changes is a dead one and belongs to a neighbour.
    warning, guesses = "", 0
    if axis == 1:
        segments = [segment for segment in segments if segment.modalities]
    else:
        segments, warning, guesses = _filled(segments, width, widths)
    sets = {segment.modalities for segment in segments}
    if len(sets) < 2:
        return ""
    text = " | ".join(f"{_name(s.modalities, names)} {s.start}-{s.stop}" for s in segments)
    units = "on axis 1:" if axis == 1 else "columns"
    description = f"{units} {text}{_merged_text(sets, names)}{warning}"
    if _disjoint(sets):
        return _separate(segments, axis, width, 2 * guesses, description, names)
    return _shared(segments, axis, 2 * guesses, description, names)


def _separate(
    segments: Sequence[_Segment],
    axis: int,
    width: int,
    penalty: int,
    description: str,
    names: Sequence[str],
) -> Layout | str:
    """Every column has one modality: splits if each modality is one segment, else blocks."""
    sets = {segment.modalities for segment in segments}
    penalty += _merged(sets)
    covered = sum(segment.stop - segment.start for segment in segments) == width
    if len(segments) == len(sets) and covered:
        ordered = tuple(_name(segment.modalities, names) for segment in segments)
        splits = tuple(segment.stop - segment.start for segment in segments)
        return Layout(ordered, splits, None, axis, penalty, description)
    if len(segments) > 4 * len(sets):
        return f"its columns change {len(segments)} times from one modality to another"
    return _blocks(segments, sets, axis, penalty + 1, description, names)


def _shared(
    segments: Sequence[_Segment], axis: int, penalty: int, description: str, names: Sequence[str]
) -> Layout | str:
    """Some columns have several modalities: a layout if each modality also has its own columns."""
    sets = {segment.modalities for segment in segments}
    single = {modalities for modalities in sets if len(modalities) == 1}
    everyone = _union(sets)
    if _union(single) != everyone:
        return _mixed(sets, names)
    if len(segments) > 2 ** len(everyone):
        return f"{_mixed(sets, names)}; if these are blocks, a larger batch may show them"
    description += "; columns of several modalities belong to each of them"
    return _blocks(segments, single, axis, penalty + 3, description, names)


def _blocks(
    segments: Sequence[_Segment],
    named: set[ModalitySet],
    axis: int,
    penalty: int,
    description: str,
    names: Sequence[str],
) -> Layout:
    """For each modality the blocks of columns that it changes."""
    blocks: dict[str, Any] = {}
    for segment in segments:
        if segment.modalities in named:
            blocks[_name(segment.modalities, names)] = [
                (s.start, s.stop) for s in segments if segment.modalities <= s.modalities
            ]
    return Layout(tuple(blocks), None, blocks, axis, penalty, description)


def _segments(columns: Sequence[ModalitySet]) -> list[_Segment]:
    segments, start = [], 0
    for modalities, equal in groupby(columns):
        stop = start + len(list(equal))
        segments.append(_Segment(modalities, start, stop))
        start = stop
    return segments


def _filled(
    segments: Sequence[_Segment], width: int, widths: Widths
) -> tuple[list[_Segment], str, int]:
    """Give the columns that no modality changes to their neighbours.

    Returns:
        Segments that fill the width; a text about what to check; 1 if a boundary is a guess.
    """
    changed: list[_Segment] = []
    for segment in segments:
        if changed and changed[-1].modalities == segment.modalities:
            changed[-1] = _Segment(segment.modalities, changed[-1].start, segment.stop)
        elif segment.modalities:
            changed.append(segment)
    if not changed:
        return [], "", 0
    gaps = [(one.stop, other.start) for one, other in pairwise(changed)]
    open_gaps = ", ".join(f"{low}-{high}" for low, high in gaps if low < high)
    fitting = [bounds for bounds in _bounds(changed, width, widths) if _in_gaps(bounds, gaps)]
    bounds = fitting[0] if fitting else [low for low, _ in gaps]
    filled = [
        _Segment(segment.modalities, start, stop)
        for segment, (start, stop) in zip(changed, pairwise([0, *bounds, width]), strict=True)
    ]
    if not open_gaps:
        return filled, "", 0
    basis = "follows from the widths of earlier modules or equal ones" if fitting else "is a guess"
    warning = f"; check columns {open_gaps}, which nothing changes: the boundary there {basis}"
    return filled, warning, int(not fitting)


def _bounds(segments: Sequence[_Segment], width: int, widths: Widths) -> Iterator[list[int]]:
    """Plausible boundaries: first from widths that modules returned, then from equal widths."""
    seen = [sorted(widths.get(segment.modalities, ())) for segment in segments]
    for chosen in islice(product(*seen), 10_000):
        if sum(chosen) == width:
            yield list(accumulate(chosen))[:-1]
    equal, rest = divmod(width, len(segments))
    if not rest:
        yield [equal * index for index in range(1, len(segments))]


def _in_gaps(bounds: Sequence[int], gaps: Sequence[tuple[int, int]]) -> bool:
    return all(low <= at <= high for at, (low, high) in zip(bounds, gaps, strict=True))


def _union(sets: Iterable[ModalitySet]) -> ModalitySet:
    return frozenset().union(*sets)


def _disjoint(sets: set[ModalitySet]) -> bool:
    return sum(map(len, sets)) == len(_union(sets))


def _merged(sets: set[ModalitySet]) -> int:
    return sum(len(modalities) - 1 for modalities in sets)


def _merged_text(sets: set[ModalitySet], names: Sequence[str]) -> str:
    if not _disjoint(sets):
        return ""
    merged = [listed([names[m] for m in sorted(one)]) for one in sets if len(one) > 1]
    return f" ({'; '.join(sorted(merged))} counted as one)" if merged else ""


def _name(modalities: ModalitySet, names: Sequence[str]) -> str:
    """One name for modalities that always come together, such as a text and its mask."""
    return "+".join(names[m] for m in sorted(modalities))


def _mixed(sets: set[ModalitySet], names: Sequence[str]) -> str:
    largest: ModalitySet = max(sets, key=len)
    mixture = listed([names[m] for m in sorted(largest)])
    return f"already mixed: the same columns of its input depend on {mixture}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
