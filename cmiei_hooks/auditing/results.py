"""What an audit found, and its plain form: the content of report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..reporting import plain
from ..units import UNITS
from .bootstrap import Interval
from .checkpoint_loading import Loaded
from .thresholds import Suggestion, WhatIf

__all__ = ["SCHEMA_VERSION", "Pair", "Results"]

SCHEMA_VERSION = 1

Values = dict[str, Interval]
"""One for each modality, by its name."""


@dataclass(frozen=True)
class Pair:
    """A value of two modalities, or of two baselines."""

    names: tuple[str, str]
    interval: Interval
    rank_correlation: float | None = None
    """Spearman's, of two baselines: over the influences of all samples and modalities."""


@dataclass(frozen=True)
class Results:
    """The results of an audit; ``AuditReport`` shows and saves them.

    Means and shares are over the samples with finite logits, with 95 % intervals of the bootstrap.
    """

    head: str
    names: tuple[str, ...]
    splits: tuple[Any, ...]
    """What each modality is in the input of the head: a width, or a list of locations."""
    drop: str
    measure: str
    n_samples: int
    """Samples with finite logits."""
    non_finite: int
    """Samples left out because their logits were NaN or infinite."""
    partial: bool
    """Whether the audit ended early: something raised, or it was interrupted."""
    interval_over: str
    """What the bootstrap draws: ``samples``, or ``identities`` (all samples with one label)."""
    influence: Values
    """Mean influence CI of each modality, in the unit of the measure (nats for KL)."""
    dominance: Values
    """Share of samples whose dominant modality it is."""
    no_influence: Interval
    """Share of samples without a dominant modality: no influence is above the rounding."""
    triggered: Interval
    """Share of samples above both thresholds (before the cap)."""
    thresholds: dict[str, float]
    """``ABS_THR``, ``REL_THR`` and ``P_MAX``."""
    null: dict[str, dict[str, float]]
    """Chance: ``mean``, ``low`` and ``high`` of the influence when the modality's features are
    shuffled over its columns, as if the head had learned nothing about them; ``p``: how often
    chance reaches the measured influence; ``n``: the number of samples it was measured on."""
    baselines: dict[str, Values]
    """Influence with each baseline: ``zero``, the ``mean`` of all samples, and ``permuted``, the
    features of another sample."""
    agreement: tuple[Pair, ...]
    """How often two baselines find the same modality dominant."""
    what_if: tuple[WhatIf, ...]
    suggestion: Suggestion
    histograms: dict[str, dict[str, list[Any]]]
    """``edges``, and ``counts`` below the first, between two, and from the last edge on."""
    strata: dict[str, list[dict[str, Any]]]
    """The strata by ``class`` and by group, the most unequal first."""
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    """One for each sample, as in ``samples.csv``."""
    shapley: Values | None = None
    """The share of ``shapley_total`` that is due to each modality, over all 2^M coalitions."""
    shapley_total: Interval | None = None
    """How far the prediction without any modality is from the complete one."""
    interactions: tuple[Pair, ...] = ()
    """Shapley interaction index of each pair: negative where the two are redundant."""
    accuracy: Interval | None = None
    """Top-1 of the complete prediction; None without labels."""
    accuracy_without: Values | None = None
    """Top-1 with one modality dropped at the head."""
    accuracy_alone: Values | None = None
    """Top-1 with all others dropped."""
    shapley_accuracy: Values | None = None
    interactions_accuracy: tuple[Pair, ...] = ()
    trend: tuple[dict[str, Any], ...] = ()
    """The means at each checkpoint, if a directory of checkpoints was audited."""
    notes: tuple[str, ...] = ()
    """What is left out or uncertain, and why."""
    labels_unusable: bool = False
    """Whether there are labels, but none of accuracy's values: they are null in report.json."""
    checkpoint: Loaded | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    """What is needed to reproduce the audit."""

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json; values that do not exist are null."""
        report: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "head": self.head,
            "names": self.names,
            "splits": self.splits,
            "drop": self.drop,
            "measure": self.measure,
            "unit": UNITS[self.measure],
            "n_samples": self.n_samples,
            "non_finite": self.non_finite,
            "partial": self.partial,
            "notes": self.notes,
            "influence": self.influence,
            "dominance": self.dominance,
            "no_influence": self.no_influence,
            "triggered": self.triggered,
            "thresholds": self.thresholds,
            "interval": {
                "level": 0.95,
                "method": "percentile bootstrap",
                "draws": 1000,
                "over": self.interval_over,
            },
        }
        if self.accuracy and self.accuracy_without:
            report |= {"accuracy": self.accuracy, "accuracy_without": self.accuracy_without}
        if self.labels_unusable:
            unknown = dict.fromkeys(("mean", "low", "high"))
            report["accuracy"] = unknown
            for key in ("accuracy_without", "accuracy_alone", "shapley_accuracy"):
                report[key] = dict.fromkeys(self.names, unknown)
        if self.accuracy_alone:
            report["accuracy_alone"] = self.accuracy_alone
        if self.shapley and self.shapley_total:
            report |= {"shapley": self.shapley, "shapley_total": self.shapley_total}
            report["interactions"] = _pairs(self.interactions)
        if self.shapley_accuracy:
            report["shapley_accuracy"] = self.shapley_accuracy
            report["interactions_accuracy"] = _pairs(self.interactions_accuracy)
        report |= {
            "baselines": self.baselines,
            "agreement": [
                {
                    "pair": pair.names,
                    "same_dominant": pair.interval,
                    "rank_correlation": pair.rank_correlation,
                }
                for pair in self.agreement
            ],
            "null": self.null,
            "strata": self.strata,
            "what_if": [
                {
                    **_thresholds(cell),
                    "triggered": cell.triggered,
                    "substituted": cell.substituted,
                    "shares": dict(zip(self.names, cell.shares, strict=True)),
                }
                for cell in self.what_if
            ],
            "suggestion": {**_thresholds(self.suggestion), "reason": self.suggestion.reason},
            "histograms": self.histograms,
        }
        if self.trend:
            report["trend"] = self.trend
        if self.checkpoint is not None:
            report["checkpoint"] = self.checkpoint
        report["environment"] = self.environment
        return plain(report)  # type: ignore[no-any-return]  # a dict stays one


def _pairs(pairs: tuple[Pair, ...]) -> list[dict[str, Any]]:
    return [{"pair": pair.names, **pair.interval.to_dict()} for pair in pairs]


def _thresholds(cell: WhatIf | Suggestion) -> dict[str, float]:
    return {"ABS_THR": cell.abs_thr, "REL_THR": cell.rel_thr, "P_MAX": cell.p_max}
