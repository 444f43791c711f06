"""What replaces a dropped modality besides zeros: the mean of all samples, or another sample.

Both are taken from all calls of the head, however the loader makes its batches. Samples can replace
each other if the head receives them in the same layout: tensors at the same places, of the same
shapes and types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..distributed import gather_objects, rank
from ..fusion import Captured, Path

__all__ = ["Pooled", "Reference"]

_LARGEST = 1024, 2**26
"""The most samples of one layout that others are replaced by, and the most bytes of them."""

Layout = tuple[tuple[Path, tuple[int, ...], torch.dtype], ...]
"""Path, shape for one sample and type of each tensor that holds modalities."""

Place = tuple[int, int, int]
"""The process, the call in it, and the row of a sample."""

Row = dict[Path, Tensor]
"""The tensors of one sample."""


@dataclass(frozen=True)
class Pooled:
    """A call of the head."""

    batch: int
    """The number of the batch: samples are counted in the order of the batches."""
    tensors: Mapping[Path, Tensor]
    """Those that hold the modalities, on the CPU."""
    usable: Tensor
    """bool ``[B]``: whether the logits are finite. A broken sample must not break others."""


class Reference:
    """The mean of all samples, and for each sample another one.

    Args:
        calls: the calls of this process.
        seed: of the choice of other samples. It depends on the number of a sample, not on its
            batch.
        everywhere: from the calls of all processes; every one of them must then make one.
    """

    def __init__(self, calls: Sequence[Pooled], seed: int, *, everywhere: bool) -> None:
        gather: Callable[[Any], list[Any]] = gather_objects if everywhere else lambda mine: [mine]
        own = rank() if everywhere else 0
        layouts = [_layout(call.tensors) for call in calls]
        rows = [(c.batch, layout, c.usable) for c, layout in zip(calls, layouts, strict=True)]
        pools = {
            layout: _cycle(found, seed, _most(layout))
            for layout, found in _numbered(gather(rows)).items()
        }
        self.others = [torch.zeros(len(call.usable), dtype=torch.int64) for call in calls]
        """For each call and each row of it the other sample, as an index of ``_pools``."""
        for order, pool in pools.values():
            for position, (process, call, row) in enumerate(order):
                if process == own:
                    self.others[call][row] = (position + 1) % len(pool)
        held = {
            place: {path: x[place[2]] for path, x in calls[place[1]].tensors.items()}
            for _, pool in pools.values()
            for place in pool
            if place[0] == own
        }
        everyone = {place: row for theirs in gather(held) for place, row in theirs.items()}
        self._pools = {
            layout: _stacked([everyone[place] for place in pool])
            for layout, (_, pool) in pools.items()
            if len(pool) > 1
        }
        sums = gather(_sums(zip(calls, layouts, strict=True)))
        self._means = {
            layout: _mean(layout, [part[layout] for part in sums if layout in part], len(order))
            for layout, (order, pool) in pools.items()
            if len(pool) > 1
        }

    def knows(self, captured: Captured) -> bool:
        """Whether there are two or more samples of this layout."""
        return _layout(captured.tensors) in self._pools

    def mean(self, captured: Captured) -> Row:
        """The mean instead of each sample of a call: tensors of the same shapes."""
        means = self._means[_layout(captured.tensors)]
        return {p: means[p].to(x.device).expand_as(x) for p, x in captured.tensors.items()}

    def other(self, captured: Captured, others: Tensor) -> Row:
        """Other samples instead, by their indices int64 ``[B]``."""
        pool = self._pools[_layout(captured.tensors)]
        chosen = others % len(next(iter(pool.values())))
        return {path: pool[path][chosen].to(x.device) for path, x in captured.tensors.items()}


def _layout(tensors: Mapping[Path, Tensor]) -> Layout:
    return tuple((path, tuple(x.shape[1:]), x.dtype) for path, x in tensors.items())


def _numbered(
    everyone: Sequence[Sequence[tuple[int, Layout, Tensor]]],
) -> dict[Layout, list[Place]]:
    """The usable samples of all processes by their layout, in the order of the batches."""
    calls = [
        (batch, process, number, layout, usable)
        for process, theirs in enumerate(everyone)
        for number, (batch, layout, usable) in enumerate(theirs)
    ]
    found: dict[Layout, list[Place]] = {}
    for _, process, number, layout, usable in sorted(calls, key=lambda call: call[:3]):
        rows = usable.nonzero()[:, 0].tolist()
        found.setdefault(layout, []).extend((process, number, row) for row in rows)
    return found


def _most(layout: Layout) -> int:
    """How many samples of a layout others are replaced by: within the limits, and two or more."""
    size = sum(math.prod(shape) * dtype.itemsize for _, shape, dtype in layout)
    return max(2, min(_LARGEST[0], _LARGEST[1] // max(size, 1)))


def _cycle(samples: Sequence[Place], seed: int, most: int) -> tuple[list[Place], list[Place]]:
    """The samples in a random order, and those of them that others are replaced by, the first.

    Each is replaced by the next one, so never by itself; those behind the pool begin it again.
    """
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [samples[i] for i in order]
    return shuffled, shuffled[:most]


def _stacked(rows: Sequence[Row]) -> Row:
    return {path: torch.stack([row[path] for row in rows]) for path in rows[0]}


def _mean(layout: Layout, sums: Sequence[Row], count: int) -> Row:
    """The mean of all samples of a layout, from the sums of each process."""
    total = {path: torch.stack([part[path] for part in sums]).sum(0) for path, _, _ in layout}
    return {path: (total[path] / count).to(dtype) for path, _, dtype in layout}


def _sums(calls: Iterable[tuple[Pooled, Layout]]) -> dict[Layout, Row]:
    """The sums of the usable samples of this process, in float64."""
    found: dict[Layout, Row] = {}
    for call, layout in calls:
        sums = found.setdefault(layout, {})
        for path, x in call.tensors.items():
            sums[path] = sums.get(path, 0) + x[call.usable].double().sum(0)
    return found
