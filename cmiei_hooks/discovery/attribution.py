"""Find which modalities change which columns of every tensor that modules receive and return."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fusion import Path
from .trace import CallRecord, Fingerprint, Key, Trace

__all__ = ["AttributedTensor", "ModalitySet", "ModuleCall", "attribute", "effect_of_edit"]

ModalitySet = frozenset[int]
"""Indices of modalities."""

_ROUNDING = 10.0
"""A change counts if it is this many times larger than the difference between two equal runs, which
is not zero where a GPU adds in varying order."""

_GROSS = 1e-3
"""A relative difference between two equal runs that rounding does not explain."""


@dataclass(frozen=True)
class AttributedTensor:
    """One tensor that a module received or returned, with the modalities that change it."""

    address: Path
    shape: tuple[int, ...]
    floating: bool
    noisy: bool
    """Whether it differs between two runs with the same inputs."""
    columns: Mapping[int, tuple[ModalitySet, ...]]
    """For each axis (-1; 1 from three axes on), the modalities that change each column."""
    rows: tuple[ModalitySet, ...]
    """The modalities that change each row; a tensor of one axis has one number in a row."""
    value: bytes
    """Equal for two tensors that are equal in every run."""

    @property
    def modalities(self) -> ModalitySet:
        """The modalities that change any of its columns."""
        return frozenset().union(*self.columns[-1])


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module, as it was in all runs."""

    key: Key
    start: int
    end: int
    inputs: tuple[AttributedTensor, ...]
    outputs: tuple[AttributedTensor, ...]
    one_argument: bool
    calls: int
    """How often one forward of the model calls this module."""

    @property
    def path(self) -> str:
        """The name of the module, as in ``named_modules()``; empty for the model itself."""
        return self.key[0]

    def inside(self, other: ModuleCall) -> bool:
        """Whether this call is made during the other one."""
        return other.start < self.start and self.end < other.end


def attribute(base: Trace, again: Trace, permuted: Sequence[Trace]) -> list[ModuleCall]:
    """Every call of the base run, in the order in which the calls begin.

    Args:
        base: a run.
        again: the same run again: what differs shows how exactly the model repeats itself.
        permuted: for each modality, a run in which the rows of this modality are permuted.
    """
    calls = Counter(path for path, _ in base)
    found = [
        ModuleCall(
            key,
            record.start,
            record.end,
            _attributed(record, again.get(key), [run.get(key) for run in permuted], "inputs"),
            _attributed(record, again.get(key), [run.get(key) for run in permuted], "outputs"),
            record.one_argument,
            calls[key[0]],
        )
        for key, record in base.items()
    ]
    return sorted(found, key=lambda call: call.start)


def effect_of_edit(base: Trace, again: Trace, edited: Trace) -> tuple[set[Key], bool]:
    """The calls whose input an edit changed, and whether it changed what the model returns.

    A model that returns no tensor cannot show the second: it is True then.
    """

    def changed(key: Key, side: str) -> bool:
        repeated, other = _by_address(again.get(key), side), _by_address(edited.get(key), side)
        return any(
            _largest(_differences(one, other.get(one.address))[-1])
            > _ROUNDING * _noise(one, repeated.get(one.address))
            for one in getattr(base[key], side)
        )

    root = ("", 0)
    used = not base[root].outputs or changed(root, "outputs")
    return {key for key in base if changed(key, "inputs")}, used


def _attributed(
    record: CallRecord, again: CallRecord | None, permuted: Sequence[CallRecord | None], side: str
) -> tuple[AttributedTensor, ...]:
    others = [_by_address(other, side) for other in permuted]
    repeated = _by_address(again, side)
    return tuple(
        _attributed_tensor(
            one, repeated.get(one.address), [found.get(one.address) for found in others]
        )
        for one in getattr(record, side)
    )


def _by_address(record: CallRecord | None, side: str) -> dict[Path, Fingerprint]:
    return {} if record is None else {one.address: one for one in getattr(record, side)}


def _attributed_tensor(
    one: Fingerprint, again: Fingerprint | None, permuted: Sequence[Fingerprint | None]
) -> AttributedTensor:
    noise = _noise(one, again)
    columns = {}
    for axis, sums in one.columns.items():
        changes = [_differences(one, other)[axis] > _ROUNDING * noise for other in permuted]
        # There are many columns and few different sets: each set is one number.
        codes = torch.zeros(len(sums), dtype=torch.int64)
        for m, changed in enumerate(changes):
            codes |= changed.long() << m
        sets = {
            code: frozenset(m for m in range(len(changes)) if code >> m & 1)
            for code in set(codes.tolist())
        }
        columns[axis] = tuple(sets[code] for code in codes.tolist())
    values = [array("d", p.columns[-1].tolist()).tobytes() if p else b"" for p in (one, *permuted)]
    value = repr(one.shape).encode() + b"".join(values)
    noisy = noise > _GROSS * one.scale
    rows = columns.pop(0)
    return AttributedTensor(one.address, one.shape, one.floating, noisy, columns, rows, value)


def _noise(one: Fingerprint, again: Fingerprint | None) -> float:
    return max(_largest(difference) for difference in _differences(one, again).values())


def _differences(one: Fingerprint, other: Fingerprint | None) -> dict[int, Tensor]:
    """How much each column differs in the other run; infinite if it has no such tensor."""
    if other is None or other.shape != one.shape:
        return {axis: torch.full_like(x, torch.inf) for axis, x in one.columns.items()}
    return {axis: (x - other.columns[axis]).abs() for axis, x in one.columns.items()}


def _largest(differences: Tensor) -> float:
    return differences.max().item() if differences.numel() else 0.0
