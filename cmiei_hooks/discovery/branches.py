"""Decisions that are combined: the model returns the sum or mean of logits of each modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, product

import torch
from torch import Tensor

from .attribution import AttributedTensor, ModalitySet, ModuleCall
from .trace import Key, Trace

__all__ = ["Branches", "branch_calls", "find_branches"]

_COMBINATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda logits: logits.sum(0),
    "mean": lambda logits: logits.mean(0),
}

_MOST_CHOICES = 64
"""The largest number of choices of one output for each modality that are tried."""

_ROUNDING = 64
"""How many times the resolution of its type a value may differ: sums are rounded in any order."""


@dataclass(frozen=True)
class Branches:
    """For each modality the module that returns its logits, and how the model combines them."""

    calls: tuple[ModuleCall, ...]
    modalities: tuple[int, ...]
    combine: str
    classes: int


def branch_calls(calls: Sequence[ModuleCall], alive: ModalitySet) -> set[Key]:
    """The calls whose tensors ``find_branches`` compares; none if there can be no branches."""
    groups = _groups(calls, alive)
    if not groups or not all(groups):
        return set()
    return {call.key for group in groups for call in group} | {("", 0)}


def find_branches(calls: Sequence[ModuleCall], alive: ModalitySet, kept: Trace) -> Branches | None:
    """The branches whose sum or mean the model returns, on this batch; None if there are none.

    Args:
        calls: as attributed.
        alive: the modalities that reach what the model returns.
        kept: a run with the tensors of ``branch_calls``.
    """
    root = next(call for call in calls if not call.path)
    returned = [_value(kept, root.key, out) for out in root.outputs if _combined(out, alive)]
    for chosen in islice(product(*_groups(calls, alive)), _MOST_CHOICES):
        logits = [_value(kept, call.key, call.outputs[0]) for call in chosen]
        for found in returned:
            same = all(x.shape == found.shape and x.dtype == found.dtype for x in logits)
            name = _combination(torch.stack(logits), found) if same else None
            if name:
                return Branches(chosen, tuple(sorted(alive)), name, found.shape[1])
    return None


def _combination(logits: Tensor, found: Tensor) -> str | None:
    rounding = _ROUNDING * torch.finfo(found.dtype).eps
    scale = logits.abs().sum(0).max().item()
    for name, combine in _COMBINATIONS.items():
        if torch.allclose(combine(logits), found, rtol=rounding, atol=rounding * scale):
            return name
    return None


def _groups(calls: Sequence[ModuleCall], alive: ModalitySet) -> list[list[ModuleCall]]:
    """For each modality the calls that return one tensor [B, C] of it alone.

    Of several that return the same tensor, the outermost one that does not hold the backbone.
    """
    root = next(call for call in calls if not call.path)
    raw = {one.value for one in root.inputs}
    shapes = {out.shape for out in root.outputs if _combined(out, alive)}
    groups = []
    for m in sorted(alive):
        found: dict[bytes, list[ModuleCall]] = {}
        for call in calls:
            out = call.outputs[0] if len(call.outputs) == 1 else None
            fits = out and not out.address and out.floating and out.shape in shapes
            if out and fits and call.path and call.calls == 1 and out.modalities == {m}:
                found.setdefault(out.value, []).append(call)
        small = [
            next((c for c in same if not raw & {x.value for x in c.inputs}), same[-1])
            for same in found.values()
        ]
        groups.append(small[::-1])  # logits come last
    return groups


def _combined(out: AttributedTensor, alive: ModalitySet) -> bool:
    return len(out.shape) == 2 and out.floating and len(alive) > 1 and alive <= out.modalities


def _value(kept: Trace, key: Key, one: AttributedTensor) -> Tensor:
    return kept[key].values["outputs", one.address]
