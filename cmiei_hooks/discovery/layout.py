"""What a module gets, as the splits or modalities of ``attach``, or why that cannot be said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise, product
from typing import Any

from .attribution import Leaf, Owner, Visit

__all__ = ["Layout", "Widths", "find_layout"]

Widths = Mapping[Owner, Set[int]]
"""How wide the features of each modality were when a module returned them."""


@dataclass(frozen=True)
class Layout:
    """Where each modality stands in the input of a module."""

    names: tuple[str, ...]
    """In the order of the columns."""
    splits: tuple[int, ...] | None
    modalities: dict[str, Any] | None
    dim: int
    rank: int
    """0: every modality apart; the larger, the less can be said for it."""
    how: str
    """For the reader."""


@dataclass(frozen=True)
class _Run:
    """Neighbouring columns that the same modalities change."""

    owner: Owner
    start: int
    stop: int


def find_layout(
    visit: Visit, names: Sequence[str], alive: Owner, known: Widths
) -> Layout | str | None:
    """The layout of one call; a string says why there is none; None: not all modalities meet here.

    Args:
        visit: the call.
        names: of all modalities.
        alive: those that matter to what the model returns.
        known: helps to find boundaries in columns that nobody changes.
    """
    leaves = [leaf for leaf in visit.inputs if leaf.owner and leaf.floating]
    # Whole numbers, such as masks, cannot be replaced by a mean: they stay as they are.
    kept = [leaf.owner for leaf in visit.inputs if not leaf.floating]
    if not leaves or not alive <= frozenset().union(*(leaf.owner for leaf in leaves), *kept):
        return None
    if any(leaf.noisy for leaf in leaves):
        return "its input differs from run to run with the same inputs"
    if len(leaves) == 1:
        found = _one_tensor(visit, leaves[0], names, known)
    else:
        found = _several_tensors(visit, leaves, names)
    missing = alive - frozenset().union(*(leaf.owner for leaf in leaves))
    if isinstance(found, str) or not missing:
        return found
    how = f"{found.how}; {_name(missing, names)} is there in whole numbers and stays as it is"
    return dataclasses.replace(found, rank=found.rank + 1, how=how)


def _several_tensors(visit: Visit, leaves: Sequence[Leaf], names: Sequence[str]) -> Layout | str:
    owners = {leaf.owner for leaf in leaves}
    if not _disjoint(owners) or len(owners) < 2:
        return f"mixed already: {_mixture(owners, names)}"
    depths = {len(leaf.address) for leaf in leaves}
    # Keys and indices inside of an argument can be said if it is the only one.
    only = {leaf.address[0] for leaf in visit.inputs} == {leaves[0].address[0]}
    if depths != {1} and not (depths == {2} and only):
        places = ", ".join(".".join(map(str, leaf.address)) for leaf in leaves)
        return f"its tensors stand where modalities= cannot reach ({places})"
    groups: dict[str, list[Any]] = {}
    for leaf in leaves:
        groups.setdefault(_name(leaf.owner, names), []).append(leaf.address[-1])
    modalities = {name: at if len(at) > 1 else at[0] for name, at in groups.items()}
    merged = _merged(owners)
    how = f"receives {len(leaves)} tensors, each of one modality{_merged_text(owners, names)}"
    return Layout(tuple(groups), None, modalities, -1, merged, how)


def _one_tensor(visit: Visit, leaf: Leaf, names: Sequence[str], known: Widths) -> Layout | str:
    if len(leaf.shape) < 2:
        return "its input is no tensor of features"
    if len(leaf.address) > 1 or leaf is not visit.inputs[0]:
        return "the tensor with the modalities is not its first argument"
    found: Layout | str = ""
    for axis in sorted(leaf.owners):
        runs = _runs(leaf.owners[axis])
        found = _on_axis(runs, axis, leaf.shape[axis], names, known)
        if isinstance(found, Layout):
            return found
    return found or f"mixed already: {_mixture({leaf.owner}, names)}"


def _on_axis(
    runs: list[_Run], axis: int, width: int, names: Sequence[str], known: Widths
) -> Layout | str:
    # A token that nobody changes is a token of its own, such as a class token; a feature that
    # nobody changes is a dead one.
    doubt, guesses = "", 0
    if axis == 1:
        runs = [run for run in runs if run.owner]
    else:
        runs, doubt, guesses = _filled(runs, width, known)
    owners = {run.owner for run in runs}
    if len(owners) < 2:
        return ""
    units = "on axis 1" if axis == 1 else "columns"
    text = " | ".join(f"{_name(run.owner, names)} {run.start}-{run.stop}" for run in runs)
    how = f"{units} {text}{_merged_text(owners, names)}{doubt}"
    if _disjoint(owners):
        covered = sum(run.stop - run.start for run in runs) == width
        return _apart(runs, axis, 2 * guesses, how, names, covered)
    return _shared(runs, axis, 2 * guesses, how, names)


def _apart(
    runs: Sequence[_Run], axis: int, rank: int, how: str, names: Sequence[str], covered: bool
) -> Layout | str:
    """Every column has one modality: splits if they are in a row, else blocks."""
    owners = {run.owner for run in runs}
    rank += _merged(owners)
    if len(runs) == len(owners) and covered:
        ordered = tuple(_name(run.owner, names) for run in runs)
        splits = tuple(run.stop - run.start for run in runs)
        return Layout(ordered, splits, None, axis, rank, how)
    if len(runs) > 4 * len(owners):
        return f"its columns alternate {len(runs)} times between the modalities"
    return _blocks(runs, owners, axis, rank + 1, how, names)


def _shared(
    runs: Sequence[_Run], axis: int, rank: int, how: str, names: Sequence[str]
) -> Layout | str:
    """Some columns have several modalities, which is no harm if each has some of its own."""
    owners = {run.owner for run in runs}
    single = {owner for owner in owners if len(owner) == 1}
    everyone = frozenset().union(*owners)
    if frozenset().union(*single) != everyone:
        return f"mixed already: {_mixture(owners, names)}"
    if len(runs) > 2 ** len(everyone):
        return (
            f"mixed already: {_mixture(owners, names)}; if it has blocks of several modalities, a "
            "larger batch may show them"
        )
    how += "; what several modalities change belongs to each of them"
    return _blocks(runs, single, axis, rank + 3, how, names)


def _blocks(
    runs: Sequence[_Run],
    modality_owners: set[Owner],
    axis: int,
    rank: int,
    how: str,
    names: Sequence[str],
) -> Layout:
    """Blocks of columns, for each modality those that it changes."""
    modalities: dict[str, Any] = {}
    for run in runs:
        if run.owner in modality_owners:
            mine = [(r.start, r.stop) for r in runs if run.owner <= r.owner]
            modalities[_name(run.owner, names)] = mine
    return Layout(tuple(modalities), None, modalities, axis, rank, how)


def _runs(owners: Sequence[Owner]) -> list[_Run]:
    runs, start = [], 0
    for owner, columns in groupby(owners):
        stop = start + len(list(columns))
        runs.append(_Run(owner, start, stop))
        start = stop
    return runs


def _filled(runs: Sequence[_Run], width: int, known: Widths) -> tuple[list[_Run], str, int]:
    """Give the columns that nobody changes to their neighbours.

    Returns:
        Runs that fill the width; what to check, as text; and 1 if a boundary is no more than a
        guess, else 0.
    """
    owned: list[_Run] = []
    for run in runs:
        if owned and owned[-1].owner == run.owner:
            owned[-1] = _Run(run.owner, owned[-1].start, run.stop)
        elif run.owner:
            owned.append(run)
    if not owned:
        return [], "", 0
    gaps = [(one.stop, other.start) for one, other in pairwise(owned)]
    told = ", ".join(f"{low}-{high}" for low, high in gaps if low < high)
    fitting = [bounds for bounds in _bounds(owned, width, known) if _in_gaps(bounds, gaps)]
    bounds = fitting[0] if fitting else [low for low, _ in gaps]
    filled = [
        _Run(run.owner, start, stop)
        for run, (start, stop) in zip(owned, pairwise([0, *bounds, width]), strict=True)
    ]
    way = "fits the widths of earlier modules, or equal ones" if fitting else "is a guess"
    doubt = f"; check {told}, which nothing changes: the boundary there {way}" if told else ""
    return filled, doubt, int(bool(told) and not fitting)


def _bounds(owned: Sequence[_Run], width: int, known: Widths) -> Iterator[list[int]]:
    """Boundaries that there may be: by widths that modules returned, then by equal widths."""
    for widths in islice(product(*(sorted(known.get(run.owner, ())) for run in owned)), 10_000):
        if sum(widths) == width:
            yield list(accumulate(widths))[:-1]
    share, rest = divmod(width, len(owned))
    if not rest:
        yield [share * index for index in range(1, len(owned))]


def _in_gaps(bounds: Sequence[int], gaps: Sequence[tuple[int, int]]) -> bool:
    return all(low <= at <= high for at, (low, high) in zip(bounds, gaps, strict=True))


def _disjoint(owners: set[Owner]) -> bool:
    return sum(len(owner) for owner in owners) == len(frozenset().union(*owners))


def _merged(owners: set[Owner]) -> int:
    return sum(len(owner) - 1 for owner in owners)


def _merged_text(owners: set[Owner], names: Sequence[str]) -> str:
    if not _disjoint(owners):
        return ""
    merged = [" with ".join(names[m] for m in sorted(o)) for o in owners if len(o) > 1]
    return f" ({', '.join(sorted(merged))} counted as one)" if merged else ""


def _name(owner: Owner, names: Sequence[str]) -> str:
    """One name for what always comes together, such as a text and its mask."""
    return "+".join(names[m] for m in sorted(owner))


def _mixture(owners: set[Owner], names: Sequence[str]) -> str:
    largest: Owner = max(owners, key=len)
    return f"{' and '.join(names[m] for m in sorted(largest))} change the same part of its input"
