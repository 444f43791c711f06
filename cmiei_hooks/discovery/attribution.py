"""Compare the runs: which modality changes which columns of what every module gets and gives."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fusion import Address
from .trace import Key, Print, Record, Trace

__all__ = ["Leaf", "Owner", "Visit", "compare", "moved"]

Owner = frozenset[int]
"""The modalities that change something."""

_ROUNDING = 10.0
"""A change must be so many times larger than what two equal runs differ by (GPU atomics)."""

_GROSS = 1e-3
"""A relative difference between two equal runs that no rounding explains."""


@dataclass(frozen=True)
class Leaf:
    """One tensor that a module got or gave."""

    address: Address
    shape: tuple[int, ...]
    floating: bool
    noisy: bool
    """Whether it differs from run to run with the same inputs."""
    owners: Mapping[int, tuple[Owner, ...]]
    """Axis -> who changes each column."""
    value: bytes
    """Equal for equal tensors: equal in every run."""

    @property
    def owner(self) -> Owner:
        """Whoever changes any part of it."""
        return frozenset().union(*self.owners[-1])


@dataclass(frozen=True)
class Visit:
    """One call of a module, in all runs."""

    key: Key
    start: int
    end: int
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    one_argument: bool
    calls: int
    """How often a forward of the model calls this module."""

    @property
    def path(self) -> str:
        """Of the module, as in ``named_modules()``; empty for the model itself."""
        return self.key[0]

    def inside(self, other: Visit) -> bool:
        """Whether the other call contains this one."""
        return other.start < self.start and self.end < other.end


def compare(base: Trace, again: Trace, exchanged: Sequence[Trace]) -> list[Visit]:
    """Every call of the base run in the order of their starts.

    Args:
        base: a run.
        again: the same again; what differs shows how exact the model repeats itself.
        exchanged: a run for each modality, with its rows exchanged.
    """
    calls = Counter(path for path, _ in base)
    visits = [
        Visit(
            key,
            record.start,
            record.end,
            _leaves(record, again.get(key), [trace.get(key) for trace in exchanged], "inputs"),
            _leaves(record, again.get(key), [trace.get(key) for trace in exchanged], "outputs"),
            record.one_argument,
            calls[key[0]],
        )
        for key, record in base.items()
    ]
    return sorted(visits, key=lambda visit: visit.start)


def moved(base: Trace, again: Trace, edited: Trace) -> tuple[set[Key], bool]:
    """The calls whose input an edit changed, and whether it changed what the model returns.

    A model that returns no tensor cannot show it: True.
    """

    def touched(key: Key, side: str) -> bool:
        repeated, other = _prints(again.get(key), side), _prints(edited.get(key), side)
        return any(
            _largest(_differences(one, other.get(one.address))[-1])
            > _ROUNDING * _noise(one, repeated.get(one.address))
            for one in getattr(base[key], side)
        )

    root = ("", 0)
    used = not base[root].outputs or touched(root, "outputs")
    return {key for key in base if touched(key, "inputs")}, used


def _leaves(
    record: Record, again: Record | None, exchanged: Sequence[Record | None], side: str
) -> tuple[Leaf, ...]:
    others = [_prints(other, side) for other in exchanged]
    repeated = _prints(again, side)
    return tuple(
        _leaf(one, repeated.get(one.address), [prints.get(one.address) for prints in others])
        for one in getattr(record, side)
    )


def _prints(record: Record | None, side: str) -> dict[Address, Print]:
    return {} if record is None else {one.address: one for one in getattr(record, side)}


def _leaf(one: Print, again: Print | None, exchanged: Sequence[Print | None]) -> Leaf:
    noise = _noise(one, again)
    owners = {}
    for axis, columns in one.columns.items():
        changes = [_differences(one, other)[axis] > _ROUNDING * noise for other in exchanged]
        # One number for each set of modalities: there are many columns and few different sets.
        codes = torch.zeros(len(columns), dtype=torch.int64)
        for m, changed in enumerate(changes):
            codes |= changed.long() << m
        sets = {
            code: frozenset(m for m in range(len(changes)) if code >> m & 1)
            for code in set(codes.tolist())
        }
        owners[axis] = tuple(sets[code] for code in codes.tolist())
    values = [array("d", p.columns[-1].tolist()).tobytes() if p else b"" for p in (one, *exchanged)]
    value = repr(one.shape).encode() + b"".join(values)
    noisy = noise > _GROSS * one.size
    return Leaf(one.address, one.shape, one.floating, noisy, owners, value)


def _noise(one: Print, again: Print | None) -> float:
    return max(_largest(difference) for difference in _differences(one, again).values())


def _differences(one: Print, other: Print | None) -> dict[int, Tensor]:
    """How far each column is from the same in another run; infinitely, if there is no such."""
    if other is None or other.shape != one.shape:
        return {axis: torch.full_like(x, torch.inf) for axis, x in one.columns.items()}
    return {axis: (x - other.columns[axis]).abs() for axis, x in one.columns.items()}


def _largest(differences: Tensor) -> float:
    return differences.max().item() if differences.numel() else 0.0
