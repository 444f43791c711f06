"""The report on the terminal: tables that fit into 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..functional import UNITS
from .bootstrap import Interval

if TYPE_CHECKING:
    from .report import AuditReport, Pair

__all__ = ["tables"]

_STRATA = 5
"""So many of the most unequal groups are shown; all are in report.json."""


def tables(report: AuditReport) -> RenderableType:
    """Influence, contributions, thresholds, groups and the trend, as far as they are known."""
    parts: list[RenderableType] = [_influences(report)]
    if report.shapley or report.accuracy_without:
        parts.append(_contributions(report))
    lines = [_interactions("interactions", report.interactions, ".4f")]
    lines.append(_interactions("interactions, accuracy", report.interactions_accuracy, ".1%"))
    agreements = [
        f"{' and '.join(pair.names)} {pair.interval.mean:.1%}" for pair in report.agreement
    ]
    lines.append("same dominant modality by stand-in: " + ", ".join(agreements))
    parts += [Text(line) for line in lines if line]
    parts += [_thresholds(report), Text(report.suggestion.reason)]
    parts += [_strata(report, name, rows) for name, rows in report.strata.items() if rows]
    if report.trend:
        parts.append(_trend(report))
    return Group(*parts)


def _table(title: str, first: str, headers: Sequence[str], caption: str | None = None) -> Table:
    table = Table(
        title=escape(title),
        caption=caption,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column(first)
    for header in headers:
        table.add_column(escape(header), justify="right")
    return table


def _influences(report: AuditReport) -> Table:
    title = f"Modality influence at {report.head!r}, {report.n_samples} samples"
    headers = (f"CI ({UNITS[report.measure]})", "95 %", "chance", "p", "Hist", "95 %")
    table = _table(title, "modality", headers, _caption(report))
    for name in report.names:
        influence, dominance = report.influence[name], report.dominance[name]
        null = report.null[name]
        table.add_row(
            escape(name),
            f"{influence.mean:.4f}",
            _range(influence, 1, ".4f"),
            f"{null['mean']:.4f}",
            f"{null['p']:.2f}",
            f"{dominance.mean:.1%}",
            _range(dominance, 100, ".0f"),
        )
    return table


def _contributions(report: AuditReport) -> Table:
    widths = all(isinstance(split, int) for split in report.splits)
    columns: list[tuple[str, Any, str]] = [
        ("Shapley", report.shapley, ".4f"),
        ("of accuracy", report.shapley_accuracy, ".1%"),
        ("accuracy without it", report.accuracy_without, ".2%"),
        ("alone", report.accuracy_alone, ".2%"),
    ]
    known = [(header, figures, form) for header, figures, form in columns if figures]
    headers = ["width" if widths else "input", *(header for header, _, _ in known)]
    table = _table("What each modality is worth", "modality", headers)
    for name, split in zip(report.names, report.splits, strict=True):
        values = [f"{figures[name].mean:{form}}" for _, figures, form in known]
        table.add_row(escape(name), escape(str(split)), *values)
    return table


def _interactions(title: str, pairs: Sequence[Pair], form: str) -> str:
    found = [f"{' with '.join(pair.names)} {pair.interval.mean:{form}}" for pair in pairs]
    return f"{title}: {', '.join(found)}" if found else ""


def _thresholds(report: AuditReport) -> Table:
    cap = report.thresholds["P_MAX"]
    cells = {(c.abs_thr, c.rel_thr): c for c in report.what_if if c.p_max == cap}
    across = sorted({rel_thr for _, rel_thr in cells})
    headers = [f"REL_THR {rel_thr:g}" for rel_thr in across]
    caption = f"configured: ABS_THR {report.thresholds['ABS_THR']:g}, "
    caption += f"REL_THR {report.thresholds['REL_THR']:g}; at most {cap:.0%} are substituted"
    table = _table("Samples triggered, if the thresholds were", "ABS_THR", headers, caption)
    for abs_thr in sorted({abs_thr for abs_thr, _ in cells}):
        row = [cells[abs_thr, rel_thr].triggered for rel_thr in across]
        table.add_row(f"{abs_thr:g}", *(f"{share:.1%}" for share in row))
    return table


def _strata(report: AuditReport, name: str, rows: Sequence[dict[str, Any]]) -> Table:
    more = len(rows) - _STRATA
    caption = f"and {more} more in report.json" if more > 0 else None
    headers = ["samples", "inequality", *(f"CI {name}" for name in report.names)]
    table = _table(f"By {name}, most unequal first", name, headers, caption)
    for row in rows[:_STRATA]:
        influences = [f"{row['influence'][modality]:.4f}" for modality in report.names]
        table.add_row(escape(row["value"]), str(row["n"]), f"{row['inequality']:.3f}", *influences)
    return table


def _trend(report: AuditReport) -> Table:
    headers = [*(f"CI {name}" for name in report.names), "accuracy"]
    table = _table("Over the epochs", "checkpoint", headers)
    for point in report.trend:
        accuracy = point["accuracy"]
        table.add_row(
            escape(point["checkpoint"]),
            *(f"{point['influence'][name]:.4f}" for name in report.names),
            "" if accuracy is None else f"{accuracy:.2%}",
        )
    return table


def _caption(report: AuditReport) -> str:
    triggered = report.triggered
    parts = [
        f"triggered {triggered.mean:.1%} ({_range(triggered, 100, '.0f')})",
        f"drop {report.drop}",
    ]
    if report.accuracy is not None:
        span = _range(report.accuracy, 100, ".1f")
        parts.insert(0, f"accuracy {report.accuracy.mean:.2%} ({span})")
    if report.partial:
        parts.insert(0, "PARTIAL: it ended early")
    if report.non_finite:
        parts.append(f"{report.non_finite} samples left out: NaN or infinite logits")
    return f"{', '.join(parts)}; intervals over {report.interval_over}"


def _range(interval: Interval, scale: float, form: str) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "unknown"
    return f"{interval.low * scale:{form}} to {interval.high * scale:{form}}"
