"""Means over the samples with their intervals, in the forms of the report."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, islice

import torch
from torch import Tensor

from .bootstrap import Interval, bootstrap
from .results import Pair

__all__ = ["Columns", "Means", "intervals"]

Columns = dict[str, Tensor]
"""What is averaged over the samples: ``[N, K]`` by the name of the statistic."""


@dataclass(frozen=True)
class Means:
    """The means with their intervals, in the forms of the report."""

    names: tuple[str, ...]
    intervals: dict[str, list[Interval]]
    """By the name of the statistic."""

    def named(self, statistic: str) -> dict[str, Interval] | None:
        """One for each modality."""
        found = self.intervals.get(statistic)
        return dict(zip(self.names, found, strict=True)) if found else None

    def pairs(self, statistic: str) -> tuple[Pair, ...]:
        """One for each pair of modalities."""
        return tuple(map(Pair, combinations(self.names, 2), self.intervals.get(statistic, [])))

    def single(self, statistic: str) -> Interval | None:
        """The only one."""
        return self.intervals[statistic][0] if statistic in self.intervals else None


_PARTIAL = ("baseline ", "agreement ")
"""How the names of these statistics begin."""


def intervals(columns: Columns, clusters: Tensor | None, seed: int) -> dict[str, list[Interval]]:
    """The mean of each column with its interval.

    Those of other baselines than the configured one may be unknown for some samples: they are
    averaged over the samples for which all of them are known.
    """
    known = {k: v.isfinite().all(1) for k, v in columns.items() if k.startswith(_PARTIAL)}
    partial = [name for name, of_samples in known.items() if not of_samples.all()]
    found = _intervals({k: v for k, v in columns.items() if k not in partial}, clusters, seed)
    if partial:
        rows = torch.stack([known[name] for name in partial]).all(0)
        some = None if clusters is None else clusters[rows]
        found |= _intervals({name: columns[name][rows] for name in partial}, some, seed)
    return found


def _intervals(columns: Columns, clusters: Tensor | None, seed: int) -> dict[str, list[Interval]]:
    found = iter(bootstrap([*columns.values()], clusters=clusters, seed=seed))
    return {name: list(islice(found, v.shape[1])) for name, v in columns.items()}
