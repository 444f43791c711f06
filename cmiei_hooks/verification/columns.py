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
    """One check; none if it is unknown which input is which modality.

    Args:
        model: as it is called.
        inputs: of the model.
        head: whose partition is checked.
        captured: a call of the head.
    """
    seen = attribute_head_input(model, inputs, head.first)
    own = seen and _own_columns(seen, captured)
    if not seen or not own:
        return []
    names, widths = head.partition.names, head.partition.widths
    alive = frozenset().union(*(one for axes in seen.columns.values() for one in axes[-1]))
    if len(alive) != len(names):
        return []
    changed_by = [frozenset().union(*sets) for sets in own]
    mixed = [m for m, sets in enumerate(own) if any(len(one) > 1 for one in sets)]
    if mixed:
        return [Check(_NAME, False, _mixed_columns(seen, names, changed_by, mixed))]
    told = [one for one in changed_by if one]
    if any(len(one) > 1 for one in told) or len(set(told)) < len(told):
        return [Check(_NAME, False, _wrong_columns(seen, names, changed_by))]
    pairs = [(n, seen.names[min(one)]) for n, one in zip(names, changed_by, strict=True) if one]
    found = ", ".join(f"{name}: {given}" for name, given in pairs)
    swapped = [(name, given) for name, given in pairs if name != given]
    if swapped and set(names) == {seen.names[m] for m in alive}:
        text = ", ".join(f"{name!r} holds the columns of {given!r}" for name, given in swapped)
        order = [given for _, given in pairs]
        remedy = ""
        if len(order) == len(names):
            given = dict(zip(order, head.partition.plain, strict=True))
            remedy = f"; pass modalities={given}" if widths is None else f"; pass names={order}"
        return [Check(_NAME, False, f"the names are in another order: {text}{remedy}")]
    return [Check(_NAME, True, found)]


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
        if seen is None:
            return []
        sets = [one for axes in seen.columns.values() for one in axes[-1]]
        received = frozenset().union(*sets)
        if not received:
            return []
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
    order = ", ".join(f"{n} {width}" for n, width in zip(layout.names, layout.splits, strict=True))
    return f"{found}; their order is {order}: pass splits={list(layout.splits)}"


def _said(seen: HeadInput, modalities: frozenset[int]) -> str:
    return listed([seen.names[m] for m in sorted(modalities)])
