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


def intervals(
    columns: Columns, baselines: Columns, clusters: Tensor | None, seed: int
) -> dict[str, list[Interval]]:
    """Of the baselines, over the samples for which all of them are known."""
    known = torch.cat([*baselines.values()], dim=1).isfinite().all(1)
    if known.all():  # all at once: drawing the resamples is what costs
        return _intervals(columns | baselines, clusters, seed)
    some = {name: values[known] for name, values in baselines.items()}
    some_clusters = None if clusters is None else clusters[known]
    return _intervals(columns, clusters, seed) | _intervals(some, some_clusters, seed)


def _intervals(columns: Columns, clusters: Tensor | None, seed: int) -> dict[str, list[Interval]]:
    table = torch.cat([values.double() for values in columns.values()], dim=1)
    found = iter(bootstrap(table, clusters=clusters, seed=seed))
    return {name: list(islice(found, v.shape[1])) for name, v in columns.items()}
