"""Does each modality hold the columns of one input of the model, and of the right one?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..discovery import HeadInput, attribute_head_input, listed
from ..fusion import Captured, Head, Path
from .report import Check

__all__ = ["check_branches", "check_columns"]

_NAME = "each modality is one input"

_Sets = list[frozenset[int]]


def check_columns(
    model: nn.Module, inputs: Sequence[Any], head: Head, captured: Captured
) -> list[Check]:
    """One check. It is ok, and says why, if it is unknown which input is which modality.

    Args:
        model: as it is called.
        inputs: of the model.
        head: whose partition is checked.
        captured: a call of the head.
    """
    seen = attribute_head_input(model, inputs, head.first)
    own = None if isinstance(seen, str) else _own_columns(seen, captured)
    if isinstance(seen, str):
        found, ok = f"not checked: {seen}", True
    elif own is None:
        found, ok = "not checked: the columns of their axis are not followed", True
    else:
        found, ok = _compared(seen, head, own)
    return [Check(_NAME, ok, found)]


def _compared(seen: HeadInput, head: Head, own: list[_Sets]) -> tuple[str, bool]:
    """What was found, and whether it is right."""
    names = head.partition.names
    first = _first_of_each_group(own, len(names))
    own = [[frozenset(first[m] for m in one) for one in sets] for sets in own]
    alive = frozenset().union(*(one for axes in seen.columns.values() for one in axes[-1]))
    alive = frozenset(first.get(m, m) for m in alive)
    changed_by = [frozenset().union(*sets) for sets in own]
    if len(alive) < len(names):
        which = listed([seen.names[m] for m in sorted(alive)]) or "no input"
        return f"not checked: only {which} of the model's inputs can be told apart", True
    if len(alive) > len(names):
        return _several_inputs_each(seen, names, own, changed_by)
    mixed = [m for m, sets in enumerate(own) if any(len(one) > 1 for one in sets)]
    if mixed:
        return _mixed_columns(seen, names, changed_by, mixed), False
    told = [one for one in changed_by if one]
    if any(len(one) > 1 for one in told) or len(set(told)) < len(told):
        return _wrong_columns(seen, names, changed_by), False
    return _named(seen, head, changed_by, alive)


def _named(
    seen: HeadInput, head: Head, changed_by: Sequence[frozenset[int]], alive: frozenset[int]
) -> tuple[str, bool]:
    """Each modality holds the columns of one input: is it the one of that name?"""
    names = head.partition.names
    pairs = [(n, seen.names[min(one)]) for n, one in zip(names, changed_by, strict=True) if one]
    swapped = [(name, given) for name, given in pairs if name != given]
    if not swapped or set(names) != {seen.names[m] for m in alive}:
        return ", ".join(f"{name}: {given}" for name, given in pairs), True
    text = ", ".join(f"{name!r} holds the columns of {given!r}" for name, given in swapped)
    order = [given for _, given in pairs]
    remedy = ""
    if len(order) == len(names):
        given = dict(zip(order, head.partition.plain, strict=True))
        of_tensors = head.partition.widths is None
        remedy = f"; pass modalities={given}" if of_tensors else f"; pass names={order}"
    return f"the names are in another order: {text}{remedy}", False


def _first_of_each_group(own: Sequence[_Sets], modalities: int) -> dict[int, int]:
    """For each input the first of those that only occur together, as ids and positions do.

    Itself, if fewer would be left than there are modalities: where the modalities are mixed, all
    inputs occur together.
    """
    sets = {one for group in own for one in group}
    inputs = frozenset().union(*sets)
    first = {
        m: min(k for k in inputs if all((k in one) == (m in one) for one in sets)) for m in inputs
    }
    enough = len(set(first.values())) >= modalities
    return first if enough else {m: m for m in inputs}


def _several_inputs_each(
    seen: HeadInput,
    names: Sequence[str],
    own: Sequence[_Sets],
    changed_by: Sequence[frozenset[int]],
) -> tuple[str, bool]:
    """There are more inputs than modalities: each input may reach one modality, or all of them."""
    told = [one for one in changed_by if one]
    if not told:
        return "not checked: every column belongs to several modalities", True
    common = frozenset.intersection(*told)
    rest = [one - common for one in told]
    # An input that reaches all of them is a context, unless some columns are its own.
    with_others = all(one - common for sets in own for one in sets)
    if with_others and sum(map(len, rest)) == len(frozenset().union(*rest)):
        found = ", ".join(
            f"{name}: {_said(seen, one - common)}"
            for name, one in zip(names, changed_by, strict=True)
            if one
        )
        reaches = "reaches" if len(common) == 1 else "reach"
        found += f"; {_said(seen, common)} {reaches} all of them" if common else ""
        return found, True
    mixed = [
        m
        for m, sets in enumerate(own)
        if any(len(s) > 1 and s & o for s in sets for k, o in enumerate(changed_by) if k != m)
    ]
    text = _wrong_columns(seen, names, changed_by)
    return _mixed_columns(seen, names, changed_by, mixed) if mixed else text, False


def check_branches(model: nn.Module, inputs: Sequence[Any], head: Head) -> list[Check]:
    """The same for branches: one check, of which input of the model each of them receives.

    Args:
        model: as it is called.
        inputs: of the model.
        head: of branches.
    """
    pairs = []
    for branch in head.branches:
        seen = attribute_head_input(model, inputs, branch.module)
        if isinstance(seen, str):
            return [Check(_NAME, True, f"not checked: of {branch.name!r}, {seen}")]
        sets = [one for axes in seen.columns.values() for one in axes[-1]]
        received = frozenset().union(*sets)
        if not received:
            found = f"not checked: no input can be told apart in what {branch.name!r} receives"
            return [Check(_NAME, True, found)]
        pairs.append((branch.modality, _said(seen, received), len(received)))
    mixed = [f"{name} receives {given}" for name, given, count in pairs if count > 1]
    if mixed:
        found = f"the modalities are mixed before the branches: {'; '.join(mixed)}"
        return [Check(_NAME, False, f"{found}; their influence cannot be separated")]
    given = [one for _, one, _ in pairs]
    found = ", ".join(f"{name}: {one}" for name, one, _ in pairs)
    names = [name for name, _, _ in pairs]
    if len(set(given)) < len(given):
        return [Check(_NAME, False, f"two branches receive the same input: {found}")]
    if names != given and set(names) == set(given):
        right = {one: branch.name for branch, one in zip(head.branches, given, strict=True)}
        found = f"the names are in another order: {found}; pass head={right}"
        return [Check(_NAME, False, found)]
    return [Check(_NAME, True, found)]


def _own_columns(seen: HeadInput, captured: Captured) -> list[_Sets] | None:
    """The sets of inputs that change the columns of each modality, without shared columns.

    None if the axis of the modalities was not recorded.
    """
    holders: defaultdict[tuple[Path, int], set[int]] = defaultdict(set)
    sets: dict[tuple[Path, int], frozenset[int]] = {}
    for m, group in enumerate(captured.groups):
        for one in group:
            address, axes = one.path, captured.tensors[one.path].dim()
            axis = -1 if one.start is None else captured.dim % axes
            axis = -1 if axis == axes - 1 else axis
            columns = seen.columns.get(address, {}).get(axis)
            if columns is None:
                return None
            for column in range(len(columns))[one.start : one.stop]:
                holders[address, column].add(m)
                sets[address, column] = columns[column]
    return [
        [sets[key] for key, held in holders.items() if held == {m} and sets[key]]
        for m in range(len(captured.groups))
    ]


def _mixed_columns(
    seen: HeadInput,
    names: Sequence[str],
    changed_by: Sequence[frozenset[int]],
    mixed: Sequence[int],
) -> str:
    if len({changed_by[m] for m in mixed}) == 1:
        which = listed([names[m] for m in mixed])
        found = f"the columns of {which} depend on {_said(seen, changed_by[mixed[0]])}"
    else:
        found = "; ".join(
            f"the columns of {names[m]} depend on {_said(seen, changed_by[m])}" for m in mixed
        )
    return (
        f"{found}: the modalities are mixed before the head, and their influence cannot be "
        "separated; name a head, or a chain, that begins before they are mixed"
    )


def _wrong_columns(
    seen: HeadInput, names: Sequence[str], changed_by: Sequence[frozenset[int]]
) -> str:
    held = [
        f"{n} holds {_said(seen, one)}" for n, one in zip(names, changed_by, strict=True) if one
    ]
    found = f"the columns are divided wrongly: {', '.join(held)}"
    layout = seen.layout
    if layout is None:
        return found
    if layout.splits is None:
        return f"{found}; pass modalities={layout.modalities}"
    if layout.penalty:  # columns that nothing changes: whose they are is a guess
        return f"{found}; their order is {', '.join(layout.names)}"
    order = ", ".join(f"{n} {width}" for n, width in zip(layout.names, layout.splits, strict=True))
    return f"{found}; their order is {order}: pass splits={list(layout.splits)}"


def _said(seen: HeadInput, modalities: frozenset[int]) -> str:
    return listed([seen.names[m] for m in sorted(modalities)])
