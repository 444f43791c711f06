"""The report of an audit: its figures, the table, and the files it is written to."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from ..functional import UNITS
from ..reporting import to_html, to_markdown, write_files
from .bootstrap import Interval
from .loading import Loaded
from .terminal import tables
from .thresholds import Suggestion, WhatIf

__all__ = ["SCHEMA_VERSION", "AuditReport", "Pair"]

SCHEMA_VERSION = 1

Figures = dict[str, Interval]
"""One for each modality, by its name."""


@dataclass(frozen=True)
class Pair:
    """A figure of two modalities, or of two baselines."""

    names: tuple[str, str]
    interval: Interval
    rank_correlation: float | None = None
    """Of two baselines: Spearman's, over the influences of all samples and modalities."""


@dataclass(frozen=True)
class AuditReport:
    """How much the predictions of a model depend on each modality.

    Means and shares are over the samples with finite logits, with 95 % intervals of the bootstrap.
    """

    head: str
    names: tuple[str, ...]
    splits: tuple[Any, ...]
    """What each modality is in the input of the head: a width, or a list of places."""
    drop: str
    measure: str
    n_samples: int
    """Samples with finite logits."""
    non_finite: int
    """Samples left out because their logits were NaN or infinite."""
    partial: bool
    """Whether it ended early: something raised, or it was interrupted."""
    interval_over: str
    """What the bootstrap draws: ``samples``, or ``identities`` (all samples of a label)."""
    influence: Figures
    """Mean influence CI of each modality, in the units of the measure (nats for KL)."""
    dominance: Figures
    """Share of samples whose dominant modality it is."""
    triggered: Interval
    """Share of samples above both thresholds (before the cap)."""
    thresholds: dict[str, float]
    """``ABS_THR``, ``REL_THR`` and ``P_MAX``."""
    null: dict[str, dict[str, float]]
    """``mean, low, high`` of the influence with the modality's features shuffled over its columns:
    what it would be if the head had learned nothing about them; ``p``: how often chance reaches the
    measured one; ``n``: of so many samples (the first ones are enough)."""
    baselines: dict[str, Figures]
    """Influence by what stands in for a modality: ``zero``, the batch ``mean``, ``permuted``: that
    of another sample of the batch."""
    agreement: tuple[Pair, ...]
    """How often two baselines find the same modality dominant."""
    what_if: tuple[WhatIf, ...]
    suggestion: Suggestion
    histograms: dict[str, dict[str, list[Any]]]
    """``edges``, and ``counts`` below the first, between two, and from the last edge on."""
    strata: dict[str, list[dict[str, Any]]]
    """By ``class`` and by the group, the most unequal first."""
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    """One for each sample, as in ``samples.csv``."""
    shapley: Figures | None = None
    """How ``shapley_total`` is shared out, by Shapley's rule over all 2^M coalitions."""
    shapley_total: Interval | None = None
    """Divergence of the prediction without any modality from the complete one."""
    interactions: tuple[Pair, ...] = ()
    """Shapley interaction index of each pair: negative where they stand in for each other."""
    accuracy: Interval | None = None
    """Top-1 of the complete prediction; None without labels."""
    accuracy_without: Figures | None = None
    """Top-1 with one modality dropped at the head."""
    accuracy_alone: Figures | None = None
    """Top-1 with all others dropped."""
    shapley_accuracy: Figures | None = None
    interactions_accuracy: tuple[Pair, ...] = ()
    trend: tuple[dict[str, Any], ...] = ()
    """Of a directory of checkpoints: means for each."""
    checkpoint: Loaded | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    """What is needed to repeat it."""

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json; figures that do not exist are null."""
        report: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "head": self.head,
            "names": list(self.names),
            "splits": list(self.splits),
            "drop": self.drop,
            "measure": self.measure,
            "unit": UNITS[self.measure],
            "n_samples": self.n_samples,
            "non_finite": self.non_finite,
            "partial": self.partial,
            "influence": _figures(self.influence),
            "dominance": _figures(self.dominance),
            "triggered": self.triggered.to_dict(),
            "thresholds": _plain(self.thresholds),
            "interval": {
                "level": 0.95,
                "method": "percentile bootstrap",
                "draws": 1000,
                "over": self.interval_over,
            },
        }
        if self.accuracy and self.accuracy_without:
            report["accuracy"] = self.accuracy.to_dict()
            report["accuracy_without"] = _figures(self.accuracy_without)
        if self.accuracy_alone:
            report["accuracy_alone"] = _figures(self.accuracy_alone)
        if self.shapley and self.shapley_total:
            report["shapley"] = _figures(self.shapley)
            report["shapley_total"] = self.shapley_total.to_dict()
            report["interactions"] = _pairs(self.interactions)
        if self.shapley_accuracy:
            report["shapley_accuracy"] = _figures(self.shapley_accuracy)
            report["interactions_accuracy"] = _pairs(self.interactions_accuracy)
        report["baselines"] = {name: _figures(f) for name, f in self.baselines.items()}
        report["agreement"] = [
            {
                "pair": list(pair.names),
                "same_dominant": pair.interval.to_dict(),
                "rank_correlation": _plain(pair.rank_correlation),
            }
            for pair in self.agreement
        ]
        report["null"] = _plain(self.null)
        report["strata"] = _plain(self.strata)
        report["what_if"] = [
            {
                "ABS_THR": _plain(cell.abs_thr),
                "REL_THR": _plain(cell.rel_thr),
                "P_MAX": cell.p_max,
                "triggered": _plain(cell.triggered),
                "substituted": _plain(cell.substituted),
                "shares": dict(zip(self.names, map(_plain, cell.shares), strict=True)),
            }
            for cell in self.what_if
        ]
        report["suggestion"] = {
            "ABS_THR": _plain(self.suggestion.abs_thr),
            "REL_THR": _plain(self.suggestion.rel_thr),
            "P_MAX": self.suggestion.p_max,
            "reason": self.suggestion.reason,
        }
        report["histograms"] = self.histograms
        if self.trend:
            report["trend"] = _plain(list(self.trend))
        if self.checkpoint is not None:
            report["checkpoint"] = self.checkpoint.to_dict()
        report["environment"] = _plain(self.environment)
        return report

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``report.json``, ``samples.csv``, ``report.md`` and ``report.html``.

        Returns:
            The path of ``report.json``.
        """
        place = Path(directory)
        report = self.to_dict()
        text = io.StringIO(newline="")
        if self.rows:
            writer = csv.DictWriter(text, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        content = {
            "samples.csv": text.getvalue(),
            "report.md": to_markdown(report),
            "report.html": to_html(report),
            "report.json": json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        }
        write_files(place, content)
        return place / "report.json"

    def table(self) -> RenderableType:
        """The figures as tables for the terminal."""
        return tables(self)


def _figures(figures: Figures) -> dict[str, dict[str, float | None]]:
    return {name: interval.to_dict() for name, interval in figures.items()}


def _pairs(pairs: tuple[Pair, ...]) -> list[dict[str, Any]]:
    return [{"pair": list(pair.names), **pair.interval.to_dict()} for pair in pairs]


def _plain(value: Any) -> Any:
    """For JSON: not-a-number is null, infinity a word."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
