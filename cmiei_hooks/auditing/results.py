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

__all__ = ["SCHEMA_VERSION", "Pair", "Results", "Retrieval"]

SCHEMA_VERSION = 1

Values = dict[str, Interval]
"""One for each modality, by its name."""


@dataclass(frozen=True)
class Pair:
    """A value of two modalities, or of two baselines."""

    names: tuple[str, str]
    interval: Interval
    rank_correlation: float | None = None
    """Spearman's, of two baselines: over the influences of all samples and modalities. It is about
    the order of the influences, not about their size."""


@dataclass(frozen=True)
class Retrieval:
    """Rank-1 of retrieval by what the head receives (cosine similarity, each sample among all
    others; not those of its own identity and group, where groups are known).

    Not the protocol of a benchmark: there is no query and gallery set, and the model may retrieve
    by other features than those that its head receives.
    """

    n: int
    """Samples that could be found: another one has their identity."""
    rank1: Interval
    """Share of them whose most similar sample has their identity."""
    rank1_without: Values
    """The same without one modality. Not that of a model that was trained without it."""
    rank1_loss: Values
    """``rank1`` minus ``rank1_without``, with the interval of paired samples."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, as in report.json."""
        return {
            "n": self.n,
            "rank1": self.rank1,
            "rank1_without": self.rank1_without,
            "rank1_loss": self.rank1_loss,
        }


@dataclass(frozen=True)
class Results:
    """The results of an audit; ``AuditReport`` shows and saves them.

    Means and shares are over the samples with finite logits, with 95 % intervals of the bootstrap:
    what other samples of the same kind would give, not what another training run would. All of it
    is about the head: what the encoders mixed before cannot be told apart.
    """

    head: str
    """The name of the head, the module whose input was changed."""
    names: tuple[str, ...]
    """The names of the modalities."""
    splits: tuple[Any, ...]
    """What each modality is in the input of the head: a width, or a list of locations."""
    drop: str
    """The baseline of ``influence`` and of all values of accuracy: ``zero`` or ``mean``."""
    measure: str
    """How the influence is computed."""
    n_samples: int
    """Samples with finite logits."""
    non_finite: int
    """Samples left out because their logits were NaN or infinite."""
    partial: bool
    """Whether the audit ended early: something raised, or it was interrupted."""
    interval_over: str
    """What the bootstrap draws: ``samples``, or ``identities`` (all samples with one label)."""
    influence: Values
    """Mean influence CI of each modality, in the unit of the measure (nats for KL): how far the
    prediction moves without it. Not whether it moves to a right or a wrong class, and not how much
    the modality knows: two that say the same hide each other (see ``shapley``)."""
    dominance: Values
    """Share of samples whose dominant modality it is: the one with the largest influence. Not the
    share of samples that need it: the largest influence of a sample may be tiny."""
    no_influence: Interval
    """Share of samples without a dominant modality: no influence is above the rounding."""
    triggered: Interval
    """Share of samples above both thresholds (before the cap). Not the share that training would
    substitute, which the cap limits (see ``what_if``)."""
    thresholds: dict[str, float]
    """``ABS_THR``, ``REL_THR`` and ``P_MAX``, as configured."""
    null: dict[str, dict[str, float]]
    """Chance: ``mean``, ``low`` and ``high`` of the influence when the modality's features are
    shuffled over its columns, as if the head had learned nothing about them; ``p``: how often
    chance reaches ``influence``, that of the same samples, which are the first ``n``. With 19
    shuffles p is at least 0.05: such a p says that no shuffle reached the influence, not how far
    above chance it is. The range is that of the shuffles, not an interval."""
    baselines: dict[str, Values]
    """Influence with each baseline: ``zero``, the ``mean`` of all samples, and ``permuted``, the
    features of another sample. None of them is the true one: ``permuted`` also shows conflict."""
    agreement: tuple[Pair, ...]
    """How often two baselines find the same modality dominant. Not whether either is right."""
    what_if: tuple[WhatIf, ...]
    """How often other thresholds would act, from the recorded influences. Not how training with
    them would go: there the influences change with the model."""
    suggestion: Suggestion
    """Thresholds that act on a moderate share of the samples. Not ones that are known to help."""
    histograms: dict[str, dict[str, list[Any]]]
    """``edges``, and ``counts`` below the first, between two, and from the last edge on."""
    strata: dict[str, list[dict[str, Any]]]
    """The strata by ``class`` and by group, the most unequal first. With many of them the first
    are unequal by chance too."""
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    """One for each sample, as in ``samples.csv``."""
    shapley: Values | None = None
    """The share of ``shapley_total`` that is due to each modality, over all 2^M coalitions. Not
    what is lost without it: that is ``influence``."""
    shapley_total: Interval | None = None
    """How far the prediction without any modality is from the complete one."""
    interactions: tuple[Pair, ...] = ()
    """Shapley interaction index of each pair: negative where the two are redundant for the head,
    which need not mean that their data are."""
    changed_predictions: Values | None = None
    """Share of samples whose predicted class is another one without the modality. It needs no
    labels, so it does not say which of the two classes is right."""
    accuracy: Interval | None = None
    """Top-1 of the complete prediction of the head; None without labels. Not the accuracy of a
    retrieval by features."""
    accuracy_without: Values | None = None
    """Top-1 with one modality dropped at the head. Not the accuracy of a model that was trained
    without the modality."""
    accuracy_loss: Values | None = None
    """``accuracy`` minus ``accuracy_without``, with the interval of paired samples. The losses do
    not add up to the accuracy: where two modalities say the same, neither is missed."""
    accuracy_alone: Values | None = None
    """Top-1 with all others dropped, which the head has not been trained for."""
    accuracy_none: Interval | None = None
    """Top-1 with every modality dropped: what the bias of the head gets right."""
    shapley_accuracy: Values | None = None
    """The share of ``shapley_accuracy_total`` that is due to each modality. Negative: it makes the
    predictions worse on average."""
    shapley_accuracy_total: Interval | None = None
    """``accuracy`` minus ``accuracy_none``: what the values of ``shapley_accuracy`` add up to."""
    interactions_accuracy: tuple[Pair, ...] = ()
    """As ``interactions``, of the accuracy."""
    retrieval: Retrieval | None = None
    """Rank-1 with and without each modality, where the labels are not classes of the head."""
    trend: tuple[dict[str, Any], ...] = ()
    """The means at each checkpoint, if a directory of checkpoints was audited."""
    notes: tuple[str, ...] = ()
    """What is left out or uncertain, and why."""
    labels_unusable: bool = False
    """Whether there are labels, but none of accuracy's values: they are null in report.json."""
    checkpoint: Loaded | None = None
    """The file of weights; None: the model as it was."""
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
        if self.changed_predictions:
            report["changed_predictions"] = self.changed_predictions
        if self.accuracy and self.accuracy_without:
            report |= {"accuracy": self.accuracy, "accuracy_without": self.accuracy_without}
            report["accuracy_loss"] = self.accuracy_loss
        if self.labels_unusable:
            unknown = dict.fromkeys(("mean", "low", "high"))
            report["accuracy"] = unknown
            for key in ("accuracy_without", "accuracy_alone", "shapley_accuracy"):
                report[key] = dict.fromkeys(self.names, unknown)
        if self.accuracy_alone:
            report |= {"accuracy_alone": self.accuracy_alone, "accuracy_none": self.accuracy_none}
        if self.shapley and self.shapley_total:
            report |= {"shapley": self.shapley, "shapley_total": self.shapley_total}
            report["interactions"] = _pairs(self.interactions)
        if self.shapley_accuracy:
            report["shapley_accuracy"] = self.shapley_accuracy
            report["shapley_accuracy_total"] = self.shapley_accuracy_total
            report["interactions_accuracy"] = _pairs(self.interactions_accuracy)
        if self.retrieval:
            report["retrieval"] = self.retrieval
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
