"""What a module gets, as the splits or modalities of ``attach``, or why that cannot be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .owners import Leaf, Owner, Visit

__all__ = ["Layout", "find_layout"]


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


def find_layout(visit: Visit, names: Sequence[str], alive: Owner) -> Layout | str | None:
    """The layout of one call; a string says why there is none; None: not all modalities meet here.

    Args:
        visit: the call.
        names: of all modalities.
        alive: those that matter to what the model returns.
    """
    leaves = [leaf for leaf in visit.inputs if leaf.owner]
    if not alive <= frozenset().union(*(leaf.owner for leaf in leaves)):
        return None
    if any(leaf.noisy for leaf in leaves):
        return "its input differs from run to run with the same inputs"
    if len(leaves) == 1:
        return _one_tensor(visit, leaves[0], names)
    return _several_tensors(visit, leaves, names)


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


def _one_tensor(visit: Visit, leaf: Leaf, names: Sequence[str]) -> Layout | str:
    if len(leaf.shape) < 2 or not leaf.floating:
        return "its input is no tensor of features"
    if len(leaf.address) > 1 or leaf is not visit.inputs[0]:
        return "the tensor with the modalities is not its first argument"
    found: Layout | str = ""
    for axis in sorted(leaf.owners):
        runs = _runs(leaf.owners[axis])
        found = _on_axis(runs, axis, leaf.shape[axis], names)
        if isinstance(found, Layout):
            return found
    return found or f"mixed already: {_mixture({leaf.owner}, names)}"


def _on_axis(runs: list[_Run], axis: int, width: int, names: Sequence[str]) -> Layout | str:
    # A token that nobody changes is a token of its own, such as a class token; a feature that
    # nobody changes is a dead one.
    doubts: list[str] = []
    runs = [run for run in runs if run.owner] if axis == 1 else _filled(runs, width, doubts)
    owners = {run.owner for run in runs}
    if len(owners) < 2:
        return ""
    units = "on axis 1" if axis == 1 else "columns"
    text = " | ".join(f"{_name(run.owner, names)} {run.start}-{run.stop}" for run in runs)
    covered = sum(run.stop - run.start for run in runs) == width
    if _disjoint(owners):
        how = f"{units} {text}{_merged_text(owners, names)}" + "".join(doubts)
        rank = _merged(owners) + 2 * len(doubts)
        ordered = tuple(_name(run.owner, names) for run in runs)
        if len(runs) == len(owners) and covered:
            splits = tuple(run.stop - run.start for run in runs)
            return Layout(ordered, splits, None, axis, rank, how)
        if len(runs) > 4 * len(owners):
            return f"its columns alternate {len(runs)} times between the modalities"
        return _blocks(runs, owners, axis, rank + 1, how, names)
    single = {owner for owner in owners if len(owner) == 1}
    everyone = frozenset().union(*owners)
    if frozenset().union(*single) != everyone or len(runs) > 2 ** len(everyone):
        return f"mixed already: {_mixture(owners, names)}"
    how = f"{units} {text}; what several modalities change belongs to each of them"
    return _blocks(runs, single, axis, 3 + 2 * len(doubts), how + "".join(doubts), names)


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


def _filled(runs: Sequence[_Run], width: int, doubts: list[str]) -> list[_Run]:
    """Give the columns that nobody changes to their neighbours."""
    owned = [run for run in runs if run.owner]
    if not owned:
        return []
    filled = [_Run(owned[0].owner, 0, owned[0].stop)]
    share = width / len({run.owner for run in owned})
    for run in owned[1:]:
        last, start = filled[-1], run.start
        if last.owner != run.owner and last.stop < run.start:
            # Equal widths, if they are possible, else a guess that is told.
            equal = round(round(last.stop / share) * share)
            start = equal if last.stop <= equal <= run.start else last.stop
            if start != equal or equal % share:
                doubts.append(f"; check the boundary in {last.stop}-{run.start}, which was guessed")
        if last.owner == run.owner:
            filled[-1] = _Run(last.owner, last.start, run.stop)
        else:
            filled[-1] = _Run(last.owner, last.start, start)
            filled.append(_Run(run.owner, start, run.stop))
    filled[-1] = _Run(filled[-1].owner, filled[-1].start, width)
    return filled


def _disjoint(owners: set[Owner]) -> bool:
    return sum(len(owner) for owner in owners) == len(frozenset().union(*owners))


def _merged(owners: set[Owner]) -> int:
    return sum(len(owner) - 1 for owner in owners)


def _merged_text(owners: set[Owner], names: Sequence[str]) -> str:
    merged = [" with ".join(names[m] for m in sorted(o)) for o in owners if len(o) > 1]
    return f" ({', '.join(sorted(merged))} counted as one)" if merged else ""


def _name(owner: Owner, names: Sequence[str]) -> str:
    """One name for what always comes together, such as a text and its mask."""
    return "+".join(names[m] for m in sorted(owner))


def _mixture(owners: set[Owner], names: Sequence[str]) -> str:
    largest: Owner = max(owners, key=len)
    return f"{' and '.join(names[m] for m in sorted(largest))} change the same part of its input"
