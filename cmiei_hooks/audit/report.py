"""The figures of an audit: computed once, printed as a table, written as report.json."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..config import Config
from ..functional import KEPT, UNITS, dominant, select
from ..head import Head
from .loading import Loaded

__all__ = ["SCHEMA_VERSION", "AuditReport", "Observed", "make_report"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Observed:
    """What is kept of one call of the head, on the CPU: no logits, which may be many."""

    influence: Tensor
    """``[B, M]``."""
    predicted: Tensor | None
    """int64 ``[B]``, the class of the complete prediction; None where there are no classes."""
    predicted_without: Tensor | None
    """int64 ``[M, B]``, the class without each modality."""
    label: Tensor | None = None
    """int64 ``[B]``."""


@dataclass(frozen=True)
class AuditReport:
    """How much the predictions of a model depend on each modality.

    All shares and means are over the samples with finite logits.
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
    influence: dict[str, float]
    """Mean influence CI of each modality, in the units of the measure (nats for KL)."""
    dominance: dict[str, float]
    """Share of samples whose dominant modality it is."""
    triggered: float
    """Share of samples above both thresholds (before the cap)."""
    thresholds: dict[str, float]
    accuracy: float | None = None
    """Top-1 of the complete prediction; None without labels."""
    accuracy_without: dict[str, float] | None = None
    """Top-1 with one modality dropped at the head."""
    checkpoint: Loaded | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json; figures that do not exist are null."""

        def means(values: dict[str, float]) -> dict[str, dict[str, float | None]]:
            return {name: {"mean": _json(value)} for name, value in values.items()}

        report: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "head": self.head,
            "names": list(self.names),
            "splits": list(self.splits),
            "drop": self.drop,
            "measure": self.measure,
            "n_samples": self.n_samples,
            "non_finite": self.non_finite,
            "influence": means(self.influence),
            "dominance": means(self.dominance),
            "triggered": {"mean": _json(self.triggered)},
            "thresholds": {k: str(v) if v == math.inf else v for k, v in self.thresholds.items()},
        }
        if self.accuracy is not None and self.accuracy_without is not None:
            report["accuracy"] = {"mean": _json(self.accuracy)}
            report["accuracy_without"] = means(self.accuracy_without)
        if self.checkpoint is not None:
            report["checkpoint"] = {
                "path": self.checkpoint.path,
                "loaded": self.checkpoint.loaded,
                "missing": list(self.checkpoint.missing),
                "unexpected": list(self.checkpoint.unexpected),
                "mismatched": list(self.checkpoint.mismatched),
            }
        return report

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``report.json`` into the directory, which is made if need be."""
        path = Path(directory) / "report.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        path.write_text(text, encoding="utf-8")
        return path

    def table(self) -> Table:
        """One row for each modality."""
        labelled = self.accuracy is not None and self.accuracy_without is not None
        title = f"Modality influence at {escape(repr(self.head))}, {self.n_samples} samples"
        table = Table(title=title, caption=self._caption(), title_justify="left")
        table.add_column("modality")
        widths = all(isinstance(split, int) for split in self.splits)
        table.add_column("width" if widths else "input", justify="right")
        table.add_column(f"CI ({UNITS[self.measure]})", justify="right")
        table.add_column("Hist", justify="right")
        if labelled:
            table.add_column("accuracy without it", justify="right")
        for name, width in zip(self.names, self.splits, strict=True):
            row = [
                escape(name),
                escape(str(width)),
                f"{self.influence[name]:.4f}",
                f"{self.dominance[name]:.1%}",
            ]
            if self.accuracy_without is not None:
                row.append(f"{self.accuracy_without[name]:.2%}")
            table.add_row(*row)
        return table

    def _caption(self) -> str:
        parts = [f"triggered {self.triggered:.1%}", f"drop {self.drop}"]
        if self.accuracy is not None:
            parts.insert(0, f"accuracy {self.accuracy:.2%}")
        if self.non_finite:
            parts.append(f"{self.non_finite} samples left out: NaN or infinite logits")
        return ", ".join(parts)


def make_report(head: Head, config: Config, observed: Sequence[Observed]) -> AuditReport:
    """The figures of all calls together; accuracy if every one of them has labels and classes."""
    names = head.partition.names
    influence = torch.cat([o.influence for o in observed]).double()
    first = dominant(influence)
    finite = first != KEPT
    chosen = select(
        influence, abs_thr=config.abs_thr, rel_thr=config.rel_thr, p_max=1.0, sample_level=True
    )

    def share(rows: Tensor) -> float:
        return rows[finite].double().mean().item()

    accuracy = without = None
    labels = [o.label for o in observed if o.label is not None]
    complete = [o.predicted for o in observed if o.predicted is not None]
    dropped = [o.predicted_without for o in observed if o.predicted_without is not None]
    if len(labels) == len(complete) == len(dropped) == len(observed):
        label = torch.cat(labels)
        accuracy = share(torch.cat(complete) == label)
        without = dict(zip(names, map(share, torch.cat(dropped, dim=1) == label), strict=True))
    return AuditReport(
        head=head.name,
        names=names,
        splits=tuple(head.partition.plain),
        drop=config.drop,
        measure=config.measure,
        n_samples=int(finite.sum()),
        non_finite=int((~finite).sum()),
        influence={n: share(influence[:, m]) for m, n in enumerate(names)},
        dominance={n: share(first == m) for m, n in enumerate(names)},
        triggered=share(chosen != KEPT),
        thresholds={"ABS_THR": config.abs_thr, "REL_THR": config.rel_thr},
        accuracy=accuracy,
        accuracy_without=without,
    )


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
