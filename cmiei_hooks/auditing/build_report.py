"""From the recorded samples to the figures of a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor

from ..functional import KEPT, dominant, select
from ..fusion import Head
from ..settings import Config
from .bootstrap import Interval, bootstrap
from .descriptive import EDGES, agreement, histogram, strata
from .report import AuditReport, Pair
from .samples import NULL_DRAWS, Samples
from .shapley import interactions, shapley
from .thresholds import ABS_THR, P_MAX, REL_THR, suggest, what_if, with_configured

__all__ = ["make_report"]

_FEWEST_IDENTITIES = 30
"""With fewer, an interval over identities would be too narrow: then it is over samples."""


def make_report(
    head: Head,
    config: Config,
    samples: Samples,
    *,
    seed: int,
    group: int | str | None = None,
    partial: bool = False,
) -> AuditReport:
    """All figures of an audit.

    Args:
        head: which was observed.
        config: ``DROP``, ``MEASURE`` and the thresholds.
        samples: what was recorded.
        seed: of the bootstrap.
        group: what the groups are called; a number is the index of their column.
        partial: whether the audit ended early.
    """
    names = head.partition.names
    rows = _rows(names, config, samples)
    everything = samples.influence.double()
    what = what_if(
        everything,
        samples.batch,
        abs_thr=with_configured(ABS_THR, config.abs_thr),
        rel_thr=with_configured(REL_THR, config.rel_thr),
        p_max=with_configured(P_MAX, config.p_max),
    )
    finite = dominant(everything) != KEPT
    kept = _only(samples, finite)
    influence = kept.influence.double()
    label = kept.label
    by_identity = label is not None and len(set(label.tolist())) >= _FEWEST_IDENTITIES
    correlations: dict[tuple[str, str], float] = {}
    columns = _columns(kept, config, correlations)
    # All at once: drawing the resamples is what costs.
    intervals = _intervals(columns, label if by_identity else None, seed)

    def named(figure: str) -> dict[str, Interval] | None:
        found = intervals.get(figure)
        return dict(zip(names, found, strict=True)) if found else None

    def pairs(figure: str) -> tuple[Pair, ...]:
        return tuple(map(Pair, combinations(names, 2), intervals.get(figure, [])))

    def single(figure: str) -> Interval | None:
        return intervals[figure][0] if figure in intervals else None

    return AuditReport(
        head=head.name,
        names=names,
        splits=tuple(head.partition.plain),
        drop=config.drop,
        measure=config.measure,
        n_samples=len(kept),
        non_finite=int((~finite).sum()),
        partial=partial,
        interval_over="identities" if by_identity else "samples",
        influence=named("influence") or {},
        dominance=named("dominance") or {},
        triggered=intervals["triggered"][0],
        thresholds={
            "ABS_THR": config.abs_thr,
            "REL_THR": config.rel_thr,
            "P_MAX": config.p_max,
        },
        null=_null(names, influence, kept.null.double()),
        baselines={name: named(f"baseline {name}") or {} for name in kept.baselines},
        agreement=tuple(
            Pair(both, intervals[f"agreement {both}"][0], correlation)
            for both, correlation in correlations.items()
        ),
        what_if=tuple(what),
        suggestion=suggest(
            what, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=config.p_max
        ),
        histograms={
            name: {"edges": list(EDGES), "counts": histogram(influence[:, m])}
            for m, name in enumerate(names)
        },
        strata=_strata(names, kept, group, seed),
        rows=rows,
        shapley=named("shapley"),
        shapley_total=single("shapley_total"),
        interactions=pairs("interactions"),
        accuracy=single("accuracy"),
        accuracy_without=named("accuracy_without"),
        accuracy_alone=named("accuracy_alone"),
        shapley_accuracy=named("shapley_accuracy"),
        interactions_accuracy=pairs("interactions_accuracy"),
    )


def _columns(
    samples: Samples, config: Config, correlations: dict[tuple[str, str], float]
) -> dict[str, Tensor]:
    """What is averaged over the samples: figure -> ``[N, K]``; also fills in the correlations."""
    influence = samples.influence.double()
    modalities = range(influence.shape[1])
    chosen = select(
        influence, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=1.0, sample_level=True
    )
    columns = {
        "influence": influence,
        "dominance": dominant(influence)[:, None] == torch.tensor([*modalities]),
        "triggered": (chosen != KEPT)[:, None],
    }
    for name, values in samples.baselines.items():
        columns[f"baseline {name}"] = values
    for both in combinations(samples.baselines, 2):
        same, correlations[both] = agreement(*(samples.baselines[name] for name in both))
        columns[f"agreement {both}"] = same[:, None]
    if samples.divergence is not None:
        # The nearer a coalition's prediction is to the complete one, the more it is worth.
        worth = -samples.divergence.double()
        columns["shapley"] = shapley(worth)
        columns["shapley_total"] = -worth[:, :1]
        columns["interactions"] = _of_pairs(worth)
    if samples.label is None or samples.predicted is None:
        return columns
    right = (samples.predicted == samples.label[:, None]).double()
    if samples.divergence is None:  # no coalitions: complete, then without each modality
        return columns | {"accuracy": right[:, :1], "accuracy_without": right[:, 1:]}
    everyone = right.shape[1] - 1
    return columns | {
        "accuracy": right[:, [everyone]],
        "accuracy_without": right[:, [everyone ^ 1 << m for m in modalities]],
        "accuracy_alone": right[:, [1 << m for m in modalities]],
        "shapley_accuracy": shapley(right),
        "interactions_accuracy": _of_pairs(right),
    }


def _of_pairs(worth: Tensor) -> Tensor:
    found = interactions(worth)
    pairs = combinations(range(found.shape[1]), 2)
    return torch.stack([found[:, i, j] for i, j in pairs], dim=1)


def _intervals(
    columns: dict[str, Tensor], clusters: Tensor | None, seed: int
) -> dict[str, list[Interval]]:
    table = torch.cat([values.double() for values in columns.values()], dim=1)
    found = iter(bootstrap(table, clusters=clusters, seed=seed))
    return {figure: list(islice(found, v.shape[1])) for figure, v in columns.items()}


def _only(samples: Samples, rows: Tensor) -> Samples:
    def kept(value: Any) -> Any:
        return value[rows] if isinstance(value, Tensor) else value

    fields = {f.name: kept(getattr(samples, f.name)) for f in dataclasses.fields(samples)}
    fields["baselines"] = {name: value[rows] for name, value in samples.baselines.items()}
    if samples.group is not None:
        pairs = zip(samples.group, rows.tolist(), strict=True)
        fields["group"] = tuple(group for group, keep in pairs if keep)
    return Samples(**fields)


def _null(names: Sequence[str], influence: Tensor, null: Tensor) -> dict[str, dict[str, float]]:
    found = {}
    for m, name in enumerate(names):
        # Not drawn for later samples; and a shuffled sample may be NaN where it was not before.
        drawn = null[:, m].isfinite().all(-1)
        means, observed = null[drawn, m].mean(0), influence[drawn, m].mean()
        reached = int((means >= observed).sum())
        found[name] = {
            "mean": means.mean().item(),
            "low": means.min().item(),
            "high": means.max().item(),
            "p": (1 + reached) / (1 + NULL_DRAWS) if drawn.any() else math.nan,
            "n": int(drawn.sum()),
        }
    return found


def _strata(
    names: Sequence[str], samples: Samples, group: int | str | None, seed: int
) -> dict[str, list[dict[str, Any]]]:
    attributes: dict[str, Sequence[Any]] = {}
    if samples.label is not None:
        attributes["class"] = samples.label.tolist()
    if samples.group is not None:
        named = isinstance(group, str) and group != "class"
        attributes[str(group) if named else "group"] = samples.group
    return {name: _strata_of(names, samples, values, seed) for name, values in attributes.items()}


def _strata_of(
    names: Sequence[str], samples: Samples, values: Sequence[Any], seed: int
) -> list[dict[str, Any]]:
    known = {value: code for code, value in enumerate(sorted(set(values)))}
    codes = torch.tensor([known[value] for value in values], dtype=torch.int64)
    influence = samples.influence.double()
    by_value = dict(zip(map(str, known), range(len(known)), strict=True))
    found = []
    for stratum in strata(influence, codes, [*by_value]):
        inside = influence[codes == by_value[stratum.value]]
        intervals = bootstrap(inside, seed=seed)
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


def _rows(names: Sequence[str], config: Config, samples: Samples) -> tuple[dict[str, Any], ...]:
    influence = samples.influence.double()
    chosen = select(
        influence, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=1.0, sample_level=True
    )
    columns: dict[str, Sequence[Any]] = {
        "sample": range(len(samples)),
        "batch": samples.batch.tolist(),
    }
    if samples.label is not None:
        columns["label"] = samples.label.tolist()
    if samples.group is not None:
        columns["group"] = samples.group
    if samples.predicted is not None:
        complete = -1 if samples.divergence is not None else 0
        columns["predicted"] = samples.predicted[:, complete].tolist()
    first = dominant(influence).tolist()
    columns["dominant"] = ["" if m == KEPT else names[m] for m in first]
    columns["triggered"] = [int(m != KEPT) for m in chosen.tolist()]
    for m, name in enumerate(names):
        columns[f"CI_{name}"] = [f"{v:.9g}" for v in influence[:, m].tolist()]
    return tuple(
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    )
