"""An audit's report in sections, made once for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..reporting import (
    WRITTEN,
    Cell,
    Part,
    Report,
    Section,
    Table,
    count,
    counted,
    day,
    finite,
    number,
    percent,
)
from ..units import UNITS
from .caveats import caveats, warnings
from .conclusion import LEVEL, cards, conclusion
from .consequence_sections import shapley, without_each
from .provenance_sections import checkpoint, provenance
from .result_sections import baselines, influence, shown, table
from .results import Results
from .thresholds import Suggestion, WhatIf
from .trend_section import DOMINATED, trend

__all__ = ["in_sections"]


def in_sections(report: Results) -> Report:
    """The report as a reader sees it. Values that were not measured are left out."""
    made = (
        trend(report),
        without_each(report),
        influence(report),
        shapley(report),
        baselines(report),
        _thresholds(report),
        _strata(report),
        checkpoint(report),
        provenance(report),
    )
    last = f"the last of {len(report.trend)} checkpoints" if report.trend else ""
    facts = [
        *filter(None, [last]),
        f"head {report.head}",
        counted(report.n_samples, "sample"),
        f"modalities {', '.join(report.names)}",
        f"{LEVEL:.0%} intervals in brackets (percentile bootstrap, 1000 draws over "
        f"{report.interval_over})",
    ]
    return Report(
        _title(report),
        [section for section in made if section.parts],
        subtitle=" \N{MIDDLE DOT} ".join(facts),
        conclusion=conclusion(report),
        caveats=caveats(report),
        warnings=warnings(report),
        cards=cards(report) if report.n_samples else (),
    )


def _title(report: Results) -> str:
    """Names the checkpoint, if there is one, and the day."""
    loaded, date = report.checkpoint, report.environment.get("date")
    what = f"head {report.head}" if loaded is None else Path(loaded.path).name
    return f"Audit of {what}{f', {day(date)}' if date else ''}"


def _heat(share: float, note: str = "") -> Cell:
    return Cell(percent(share), note, shade=min(max(finite(share) or 0.0, 0.0), 1.0))


def _thresholds(report: Results) -> Section:
    """How often other thresholds would trigger, and what the cap leaves of it."""
    cap, advice = report.thresholds["P_MAX"], report.suggestion
    configured = (report.thresholds["ABS_THR"], report.thresholds["REL_THR"])
    notes = {(advice.abs_thr, advice.rel_thr): "suggested", configured: "configured"}
    cells = {(c.abs_thr, c.rel_thr): c for c in report.what_if if c.p_max == cap}
    down, across = (sorted(set(values)) for values in zip(*cells, strict=True))
    rows: list[list[str | Cell]] = [
        [f"{a:g}", *(_heat(cells[a, r].triggered, notes.get((a, r), "")) for r in across)]
        for a in down
    ]
    others: list[Part] = [
        "In training, the most strongly triggered samples, at most the share P_MAX of a batch, are "
        "substituted: their dominant modality is replaced, so that the head must use the others.",
        _advice(advice),
        Table(
            "Share of the samples that would be triggered, by ABS_THR (down) and REL_THR",
            ["ABS_THR", *(f"REL_THR {r:g}" for r in across)],
            rows,
        ),
        _caps(report, [c for c in report.what_if if (c.abs_thr, c.rel_thr) == configured]),
    ]
    unit = UNITS[report.measure]
    return Section(
        "Samples that C-MIEI would act on",
        [
            f"{shown(report.triggered, percent)} of the samples are triggered: their dominant "
            f"influence is above {configured[0]:g} {unit} (ABS_THR) and more than "
            f"{configured[1]:g} times the second largest (REL_THR).",
            Section("Other thresholds", others, folded=True),
        ],
    )


def _advice(advice: Suggestion) -> str:
    return (
        f"Suggested: ABS_THR {advice.abs_thr:g}, REL_THR {advice.rel_thr:g}, "
        f"P_MAX {advice.p_max:g}. Reason: {advice.reason}."
    )


def _caps(report: Results, cells: Sequence[WhatIf]) -> Table:
    rows = [
        [f"{c.p_max:g}", percent(c.triggered), percent(c.substituted), *map(percent, c.shares)]
        for c in cells
    ]
    return Table(
        "Share substituted under other caps, with the configured thresholds",
        ["P_MAX", "triggered", "substituted", *report.names],
        rows,
        media=("html",),
        note="The last columns: how the triggered samples divide among the modalities.",
    )


def _strata(report: Results) -> Section:
    """Influence and dominance by class, camera and the like."""
    return Section(
        "Groups of samples",
        [_group(report, kind, rows) for kind, rows in report.strata.items() if rows],
        "Where the modalities are most unequal. Groups of few samples vary by chance.",
    )


def _group(report: Results, kind: str, groups: Sequence[Mapping[str, Any]]) -> Section:
    by_value = {group["value"]: group for group in groups}
    means = {
        "samples": {value: count(g["n"]) for value, g in by_value.items()},
        "inequality": {value: number(g["inequality"]) for value, g in by_value.items()},
        **{n: {v: number(g["influence"][n]) for v, g in by_value.items()} for n in report.names},
    }
    shares = {n: {v: _heat(g["dominance"][n]) for v, g in by_value.items()} for n in report.names}
    unit = UNITS[report.measure]
    return Section(
        f"By {kind}",
        [
            table(
                f"Mean influence ({unit}), the most unequal first",
                kind,
                means,
                "Inequality: 0 if all modalities have the same influence, the larger the fewer "
                "have it.",
                long=True,
                folded=True,
            ),
            table(f"{DOMINATED}, in the same order", kind, shares, long=True, media=WRITTEN),
        ],
    )
