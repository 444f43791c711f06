"""Make the report from the recorded samples: means with intervals, shares, strata, what-if."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations, compress
from typing import Any

import torch
from torch import Tensor

from ..functional import KEPT, dominant, select
from ..fusion import Head
from ..measures import floor_of
from ..settings import Config
from .means import Columns, Means, intervals
from .report import AuditReport
from .results import Pair
from .retrieval import Vectors, retrieval_of
from .rows import Rows
from .samples import NULL_DRAWS, UNKNOWN, Samples
from .shapley import interactions, shapley
from .statistics import EDGES, agreements, histogram
from .strata import report_strata
from .thresholds import ABS_THR, P_MAX, REL_THR, WhatIf, suggest, what_if, with_configured

__all__ = ["build_report"]

_FEWEST_IDENTITIES = 30
"""The fewest identities to draw intervals over; fewer would make them too narrow."""


def build_report(
    head: Head,
    config: Config,
    samples: Samples,
    *,
    seed: int,
    group: int | str | None = None,
    notes: Sequence[str] = (),
    vectors: Sequence[Vectors] = (),
) -> AuditReport:
    """The report of an audit.

    Args:
        head: the head that was observed.
        config: ``DROP``, ``MEASURE`` and the thresholds.
        samples: what was recorded.
        seed: of the bootstrap.
        group: what the groups are called; a number is the index of their column.
        notes: what the reader must know about the samples.
        vectors: what the head received, to retrieve by where the labels are not its classes.
    """
    names = head.partition.names
    what = _what_if(samples, config)
    finite = samples.influence.isfinite().all(-1)
    floor = floor_of(config.measure)
    kept = _only(samples, finite)
    influence, label = kept.influence.double(), kept.label
    by_identity = label is not None and len(set(label.tolist())) >= _FEWEST_IDENTITIES
    no_accuracy, no_shapley, found = _why_no_accuracy(kept), _why_no_shapley(kept, names), None
    same, correlations = _agreements(kept, floor)
    columns = _influences(kept, config) | same | _contributions(kept)
    columns |= _changes(kept) | (_accuracies(kept) if no_accuracy is None else {})
    if no_accuracy is not None and label is not None and int(label.max()) >= (kept.classes or 0):
        found = retrieval_of(names, vectors, by_identity=by_identity, seed=seed)
        no_accuracy += " Taken for identities, they give rank-1 instead." if found else ""
    means = Means(names, intervals(columns, label if by_identity else None, seed))
    return AuditReport(
        head=head.name,
        names=names,
        splits=tuple(head.partition.plain),
        drop=config.drop,
        measure=config.measure,
        n_samples=len(kept),
        non_finite=int((~finite).sum()),
        partial=False,
        interval_over="identities" if by_identity else "samples",
        influence=means.named("influence") or {},
        dominance=means.named("dominance") or {},
        no_influence=means.intervals["no_influence"][0],
        triggered=means.intervals["triggered"][0],
        thresholds={"ABS_THR": config.abs_thr, "REL_THR": config.rel_thr, "P_MAX": config.p_max},
        null=_null(names, influence, kept.null),
        baselines={name: means.named(f"baseline {name}") or {} for name in kept.baselines},
        agreement=tuple(
            Pair(both, means.intervals[f"agreement {both}"][0], correlation)
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
        strata=report_strata(names, influence, _attributes(kept, group), seed, floor),
        rows=Rows(names, config.measure, samples, _triggered(samples.influence.double(), config)),
        shapley=means.named("shapley"),
        shapley_total=means.single("shapley_total"),
        interactions=means.pairs("interactions"),
        accuracy=means.single("accuracy"),
        accuracy_without=means.named("accuracy_without"),
        accuracy_loss=means.named("accuracy_loss"),
        accuracy_alone=means.named("accuracy_alone"),
        accuracy_none=means.single("accuracy_none"),
        changed_predictions=means.named("changed_predictions"),
        shapley_accuracy=means.named("shapley_accuracy"),
        shapley_accuracy_total=means.single("shapley_accuracy_total"),
        interactions_accuracy=means.pairs("interactions_accuracy"),
        retrieval=found,
        notes=(*notes, *filter(None, (no_accuracy, no_shapley))),
        labels_unusable=no_accuracy is not None,
    )


def _what_if(samples: Samples, config: Config) -> list[WhatIf]:
    return what_if(
        samples.influence.double(),
        samples.batch,
        abs_thr=with_configured(ABS_THR, config.abs_thr),
        rel_thr=with_configured(REL_THR, config.rel_thr),
        p_max=with_configured(P_MAX, config.p_max),
        floor=floor_of(config.measure),
    )


def _attributes(samples: Samples, group: int | str | None) -> dict[str, Sequence[Any] | None]:
    """The values that samples are grouped by, by the name of the attribute."""
    labelled = isinstance(group, str) and group != "class"
    return {
        "class": None if samples.label is None else samples.label.tolist(),
        str(group) if labelled else "group": samples.group,
    }


def _influences(samples: Samples, config: Config) -> Columns:
    influence = samples.influence.double()
    first = dominant(influence, floor_of(config.measure))
    return {
        "influence": influence,
        "dominance": first[:, None] == torch.arange(influence.shape[1]),
        "no_influence": first[:, None] == KEPT,
        "triggered": _triggered(influence, config)[:, None],
        **{f"baseline {name}": values for name, values in samples.baselines.items()},
    }


def _triggered(influence: Tensor, config: Config) -> Tensor:
    """Whether each sample is above both thresholds, before the cap."""
    chosen = select(
        influence,
        abs_thr=config.abs_thr,
        rel_thr=config.rel_thr,
        p_max=1.0,
        sample_level=True,
        floor=floor_of(config.measure),
    )
    return chosen != KEPT


def _agreements(samples: Samples, floor: float) -> tuple[Columns, dict[tuple[str, str], float]]:
    """The agreement in each sample and the rank correlation, for each pair of baselines.

    Of samples for which all baselines are known; the agreement is NaN for others.
    """
    every = [values.isfinite().all(-1) for values in samples.baselines.values()]
    known = torch.stack(every).all(0)
    found = agreements([values[known] for values in samples.baselines.values()], floor)
    columns, correlations = {}, {}
    for both, (same, correlations[both]) in zip(
        combinations(samples.baselines, 2), found, strict=True
    ):
        columns[f"agreement {both}"] = same.new_full((len(known), 1), math.nan)
        columns[f"agreement {both}"][known, 0] = same
    return columns, correlations


def _contributions(samples: Samples) -> Columns:
    if samples.divergence is None:
        return {}
    # The nearer a coalition's prediction is to the complete one, the more it is worth.
    worth = -samples.divergence.double()
    return {
        "shapley": shapley(worth),
        "shapley_total": -worth[:, :1],
        "interactions": _of_pairs(worth),
    }


def _complete_and_without(samples: Samples) -> tuple[list[int], list[int]]:
    """The columns of ``predicted`` for the complete prediction, and for that without each."""
    modalities = range(samples.influence.shape[1])
    if samples.divergence is None:  # no coalitions: complete, then without each modality
        return [0], [1 + m for m in modalities]
    everyone = (1 << len(modalities)) - 1
    return [everyone], [everyone ^ 1 << m for m in modalities]


def _changes(samples: Samples) -> Columns:
    """Whether the predicted class is another one without each modality."""
    if samples.predicted is None:
        return {}
    complete, without = (samples.predicted[:, which] for which in _complete_and_without(samples))
    changed = (complete != without).double()
    changed[(complete == UNKNOWN) | (without == UNKNOWN)] = math.nan
    return {"changed_predictions": changed}


def _accuracies(samples: Samples) -> Columns:
    if samples.label is None or samples.predicted is None:
        return {}
    right = (samples.predicted == samples.label[:, None]).double()
    right[samples.predicted == UNKNOWN] = math.nan
    complete, without = (right[:, which] for which in _complete_and_without(samples))
    found = {
        "accuracy": complete,
        "accuracy_without": without,
        "accuracy_loss": complete - without,  # its interval is that of paired samples
    }
    if samples.divergence is None:
        return found
    return found | {
        "accuracy_alone": right[:, [1 << m for m in range(samples.influence.shape[1])]],
        "accuracy_none": right[:, :1],
        "shapley_accuracy": shapley(right),
        "shapley_accuracy_total": complete - right[:, :1],
        "interactions_accuracy": _of_pairs(right),
    }


def _why_no_accuracy(samples: Samples) -> str | None:
    """Why there is no accuracy although there are labels."""
    if samples.label is None or samples.classes is None:
        return None
    outside = [label for label in samples.label.tolist() if not 0 <= label < samples.classes]
    if not outside:
        return None
    examples = ", ".join(map(str, sorted(set(outside))[:3]))
    return (
        f"Accuracy is left out: {len(outside)} of {len(samples)} labels are outside the classes of "
        f"the head (0 to {samples.classes - 1}), such as {examples}."
    )


def _why_no_shapley(samples: Samples, names: Sequence[str]) -> str | None:
    """Why the Shapley values are null although the complete prediction is finite."""
    if samples.divergence is None:
        return None
    broken = ~samples.divergence.isfinite()
    if not broken.any():
        return None
    count = int(broken.any(1).sum())
    coalition = int(broken.any(0).nonzero()[0])
    present = [name for m, name in enumerate(names) if coalition >> m & 1]
    example = f"{' and '.join(present)} alone" if present else "none at all"
    return (
        "The Shapley values are unknown: the head returns NaN or infinite logits for some "
        f"combinations of modalities ({example}, for example), in {count} of {len(samples)} "
        "samples."
    )


def _of_pairs(worth: Tensor) -> Tensor:
    found = interactions(worth)
    pairs = combinations(range(found.shape[1]), 2)
    return torch.stack([found[:, i, j] for i, j in pairs], dim=1)


def _only(samples: Samples, rows: Tensor) -> Samples:
    if rows.all():
        return samples  # there may be a million of them

    def kept(value: Any) -> Any:
        return value[rows] if isinstance(value, Tensor) else value

    names = {f.name for f in dataclasses.fields(samples)} - {"baselines", "null", "group"}
    fields = {name: kept(getattr(samples, name)) for name in names}
    fields["baselines"] = {name: value[rows] for name, value in samples.baselines.items()}
    fields["null"] = samples.null[rows[: len(samples.null)]]
    if samples.group is not None:
        fields["group"] = tuple(compress(samples.group, rows.tolist()))
    return Samples(**fields)


def _null(names: Sequence[str], influence: Tensor, null: Tensor) -> dict[str, dict[str, float]]:
    found = {}
    for m, name in enumerate(names):
        # A shuffled sample may be NaN where it was not before.
        drawn = null[:, m].isfinite().all(-1)
        observed = influence[: len(null)][drawn, m].mean()
        means = null[drawn, m].double().mean(0)
        reached = int((means >= observed).sum())
        found[name] = {
            "influence": observed.item(),
            "mean": means.mean().item(),
            "low": means.min().item(),
            "high": means.max().item(),
            "p": (1 + reached) / (1 + NULL_DRAWS) if drawn.any() else math.nan,
            "n": int(drawn.sum()),
        }
    return found
