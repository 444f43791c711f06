"""Strata: the samples that share a value of an attribute, such as a class or a camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..functional import KEPT, dominant
from ..measures import FLOOR
from .bootstrap import Interval, bootstrap_each
from .statistics import inequality

__all__ = ["Stratum", "report_strata", "strata"]


@dataclass(frozen=True)
class Stratum:
    """The samples that share one value of an attribute (a camera, a class)."""

    value: str
    n: int
    """The number of samples."""
    influence: tuple[float, ...]
    """Mean of each modality, in the units of the measure."""
    dominance: tuple[float, ...]
    """Share of the samples that each modality dominates."""
    inequality: float
    """Gini coefficient of the mean influences: 0 if all are equal. In a stratum of few samples it
    is large by chance."""


def strata(
    influence: Tensor, codes: Tensor, labels: Sequence[str], floor: float = FLOOR
) -> list[Stratum]:
    """One stratum for each value of an attribute, the most unequal first.

    Args:
        influence: ``[N, M]``.
        codes: int64 ``[N]``, the index in ``labels`` of the value that each sample has.
        labels: the values.
        floor: influences up to here make no modality dominant.

    Returns:
        One stratum for each value that occurs, by falling inequality; equally unequal ones by
        falling size, then by the name of the value.
    """
    values, modalities = len(labels), influence.shape[1]
    counts = codes.bincount(minlength=values)
    sums = influence.double().new_zeros(values, modalities)
    means = sums.index_add_(0, codes, influence.double()) / counts[:, None]
    first = dominant(influence, floor)
    cells = codes * modalities + first
    firsts = cells[first != KEPT].bincount(minlength=values * modalities).view(values, modalities)
    found = [
        Stratum(label, n, tuple(mean), tuple(share), gini)
        for label, n, mean, share, gini in zip(
            labels,
            counts.tolist(),
            means.tolist(),
            (firsts / counts[:, None].double()).tolist(),
            inequality(means).tolist(),
            strict=True,
        )
        if n
    ]
    # Rounded, since equal strata of different sizes differ in the last digits of their sums.
    return sorted(found, key=lambda s: (-round(s.inequality, 12), -s.n, s.value))


def report_strata(
    names: Sequence[str],
    influence: Tensor,
    attributes: Mapping[str, Sequence[Any] | None],
    seed: int,
    floor: float = FLOOR,
) -> dict[str, list[dict[str, Any]]]:
    """The strata of a report: for each known attribute its strata, with intervals.

    Args:
        names: the names of the modalities.
        influence: ``[N, M]``, finite.
        attributes: the value of each sample, by the name of the attribute; None: not known.
        seed: of the bootstrap.
        floor: influences up to here make no modality dominant.
    """
    return {
        attribute: _strata_of(names, influence.double(), values, seed, floor)
        for attribute, values in attributes.items()
        if values is not None
    }


def _strata_of(
    names: Sequence[str], influence: Tensor, values: Sequence[Any], seed: int, floor: float
) -> list[dict[str, Any]]:
    known = {value: code for code, value in enumerate(sorted(set(values)))}
    codes = torch.tensor([known[value] for value in values], dtype=torch.int64)
    by_value = dict(zip(map(str, known), range(len(known)), strict=True))
    found = []
    one_each = strata(influence, codes, [*by_value], floor)
    intervals_of = _intervals(influence, codes, [by_value[s.value] for s in one_each], seed)
    for stratum, intervals in zip(one_each, intervals_of, strict=True):
        found.append(
            {
                "value": stratum.value,
                "n": stratum.n,
                "influence": dict(zip(names, stratum.influence, strict=True)),
                "interval": {
                    name: [interval.low, interval.high]
                    for name, interval in zip(names, intervals, strict=True)
                },
                "dominance": dict(zip(names, stratum.dominance, strict=True)),
                "inequality": stratum.inequality,
            }
        )
    return found


def _intervals(
    influence: Tensor, codes: Tensor, chosen: Sequence[int], seed: int
) -> list[list[Interval]]:
    """The intervals of the mean influences in each stratum, by its code."""
    sorted_by_code = influence[codes.argsort(stable=True)]
    sets = torch.split(sorted_by_code, codes.bincount().tolist())
    return bootstrap_each([sets[code] for code in chosen], seed=seed)
