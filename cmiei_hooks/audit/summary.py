"""From the recorded samples to the figures of a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..config import Config
from ..functional import KEPT, dominant, select
from ..head import Head
from .figures import EDGES, agreement, histogram, strata
from .intervals import Interval, bootstrap
from .record import NULL_DRAWS, Samples
from .report import AuditReport, Pair
from .shapley import interactions, shapley
from .what_if import ABS_THR, P_MAX, REL_THR, suggest, what_if, with_configured

__all__ = ["make_report"]

_FEWEST_IDENTITIES = 30
"""With fewer, an interval over identities would be too narrow: then it is over samples."""

Mean = Callable[[Tensor], list[Interval]]


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
    first = dominant(influence)
    label = kept.label
    by_identity = label is not None and len(set(label.tolist())) >= _FEWEST_IDENTITIES

    def mean(values: Tensor) -> list[Interval]:
        return bootstrap(values, clusters=label if by_identity else None, seed=seed)

    chosen = select(
        influence, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=1.0, sample_level=True
    )
    modalities = torch.arange(len(names))
    report = AuditReport(
        head=head.name,
        names=names,
        splits=tuple(head.partition.plain),
        drop=config.drop,
        measure=config.measure,
        n_samples=len(kept),
        non_finite=int((~finite).sum()),
        partial=partial,
        interval_over="identities" if by_identity else "samples",
        influence=_named(names, mean(influence)),
        dominance=_named(names, mean(first[:, None] == modalities)),
        triggered=mean(chosen != KEPT)[0],
        thresholds={
            "ABS_THR": config.abs_thr,
            "REL_THR": config.rel_thr,
            "P_MAX": config.p_max,
        },
        null=_null(names, influence, kept.null.double()),
        baselines={n: _named(names, mean(v)) for n, v in kept.baselines.items()},
        agreement=_agreement(kept, mean),
        what_if=tuple(what),
        suggestion=suggest(
            what, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=config.p_max
        ),
        histograms={
            name: {"edges": list(EDGES), "counts": histogram(influence[:, m])}
            for m, name in enumerate(names)
        },
        strata=_strata(names, kept, group if isinstance(group, str) else "group"),
        rows=rows,
    )
    return _with_accuracy(_with_coalitions(report, kept, mean), kept, mean)


def _named(names: Sequence[str], intervals: Sequence[Interval]) -> dict[str, Interval]:
    return dict(zip(names, intervals, strict=True))


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
    drawn = null.isfinite().all(-1).all(-1)  # a shuffled sample may be NaN where it was not before
    null, observed = null[drawn], influence[drawn].mean(0)
    means = null.mean(0)  # [M, draws]
    found = {}
    for m, name in enumerate(names):
        reached = int((means[m] >= observed[m]).sum())
        found[name] = {
            "mean": means[m].mean().item(),
            "low": means[m].min().item(),
            "high": means[m].max().item(),
            "p": (1 + reached) / (1 + NULL_DRAWS) if drawn.any() else math.nan,
            "n": int(drawn.sum()),
        }
    return found


def _agreement(samples: Samples, mean: Mean) -> tuple[Pair, ...]:
    pairs = []
    for one, other in combinations(samples.baselines, 2):
        same, correlation = agreement(samples.baselines[one], samples.baselines[other])
        pairs.append(Pair((one, other), mean(same)[0], correlation))
    return tuple(pairs)


def _strata(names: Sequence[str], samples: Samples, group: str) -> dict[str, list[dict[str, Any]]]:
    attributes: dict[str, Sequence[Any]] = {}
    if samples.label is not None:
        attributes["class"] = samples.label.tolist()
    if samples.group is not None:
        attributes[group] = samples.group
    found = {}
    for attribute, values in attributes.items():
        known = {value: code for code, value in enumerate(sorted(set(values)))}
        codes = torch.tensor([known[value] for value in values], dtype=torch.int64)
        found[attribute] = [
            {
                "value": stratum.value,
                "n": stratum.n,
                "influence": dict(zip(names, stratum.influence, strict=True)),
                "dominance": dict(zip(names, stratum.dominance, strict=True)),
                "inequality": stratum.inequality,
            }
            for stratum in strata(samples.influence.double(), codes, [str(v) for v in known])
        ]
    return found


def _with_coalitions(report: AuditReport, samples: Samples, mean: Mean) -> AuditReport:
    if samples.divergence is None:
        return report
    # The nearer a coalition's prediction is to the complete one, the more it is worth.
    worth = -samples.divergence.double()
    return dataclasses.replace(
        report,
        shapley=_named(report.names, mean(shapley(worth))),
        shapley_total=mean(samples.divergence[:, 0])[0],
        interactions=_interactions(report.names, worth, mean),
    )


def _interactions(names: Sequence[str], worth: Tensor, mean: Mean) -> tuple[Pair, ...]:
    pairs = list(combinations(range(len(names)), 2))
    found = interactions(worth)
    intervals = mean(torch.stack([found[:, i, j] for i, j in pairs], dim=1))
    return tuple(
        Pair((names[i], names[j]), interval)
        for (i, j), interval in zip(pairs, intervals, strict=True)
    )


def _with_accuracy(report: AuditReport, samples: Samples, mean: Mean) -> AuditReport:
    if samples.label is None or samples.predicted is None:
        return report
    count = len(report.names)
    right = (samples.predicted == samples.label[:, None]).double()
    if samples.divergence is None:  # no coalitions: complete, then without each modality
        return dataclasses.replace(
            report,
            accuracy=mean(right[:, 0])[0],
            accuracy_without=_named(report.names, mean(right[:, 1:])),
        )
    everyone = (1 << count) - 1
    without = [everyone ^ 1 << m for m in range(count)]
    return dataclasses.replace(
        report,
        accuracy=mean(right[:, everyone])[0],
        accuracy_without=_named(report.names, mean(right[:, without])),
        accuracy_alone=_named(report.names, mean(right[:, [1 << m for m in range(count)]])),
        shapley_accuracy=_named(report.names, mean(shapley(right))),
        interactions_accuracy=_interactions(report.names, right, mean),
    )


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
