"""The sections of an audit's report, made once for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..reporting import (
    WRITTEN,
    Cell,
    Code,
    Grid,
    LinePlot,
    Part,
    Report,
    Section,
    Table,
    count,
    finite,
    number,
    percent,
    points,
    setting,
)
from ..units import UNITS
from .conclusion import LEVEL, cards, conclusion, warnings
from .result_sections import (
    accuracy,
    baselines,
    distribution,
    dominance,
    influence,
    shapley,
    table,
)
from .results import Results
from .thresholds import Suggestion, WhatIf

__all__ = ["in_sections"]

_DOMINATED = "Share of the samples that each modality dominates"
_NAMED = 15
"""How many tensors of a checkpoint are named."""


def in_sections(report: Results) -> Report:
    """The report as a reader sees it. Values that were not measured are left out."""
    made = (
        influence(report),
        distribution(report),
        dominance(report),
        shapley(report),
        accuracy(report),
        baselines(report),
        _thresholds(report),
        _strata(report),
        _trend(report),
        _checkpoint(report),
        _provenance(report),
    )
    return Report(
        f"Modality influence at {report.head}",
        [section for section in made if section.parts],
        conclusion=" ".join(conclusion(report)),
        warnings=warnings(report),
        cards=cards(report) if report.n_samples else (),
        note=(
            f"In brackets: the {LEVEL:.0%} interval (percentile bootstrap, 1000 draws over "
            f"{report.interval_over})."
        ),
    )


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
    return Section(
        "Other thresholds",
        [
            Table(
                "Share of the samples that would be triggered, by ABS_THR (down) and REL_THR",
                ["ABS_THR", *(f"REL_THR {r:g}" for r in across)],
                rows,
            ),
            _advice(advice),
            _caps(report, [c for c in report.what_if if (c.abs_thr, c.rel_thr) == configured]),
        ],
        "A sample is triggered when its dominant influence is above ABS_THR and more than REL_THR "
        "times the second largest. In training, the most strongly triggered samples, at most the "
        "share P_MAX of a batch, are substituted: their dominant modality is replaced, so that the "
        "head must use the others.",
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
        "Share substituted under other caps, with the configured thresholds; the last columns: how "
        "the triggered samples divide among the modalities",
        ["P_MAX", "triggered", "substituted", *report.names],
        rows,
        media=("html",),
    )


def _strata(report: Results) -> Section:
    """Influence and dominance by class, camera and the like."""
    return Section(
        "Groups of samples",
        [_group(report, kind, rows) for kind, rows in report.strata.items() if rows],
        "Where the modalities are most unequal. Inequality is 0 if all have the same influence, "
        "and larger the fewer have it. Groups of few samples vary by chance.",
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
            table(f"Mean influence ({unit}), the most unequal first", kind, means, long=True),
            table(_DOMINATED, kind, shares, long=True, media=WRITTEN),
        ],
    )


def _trend(report: Results) -> Section:
    """The checkpoints of one training run, side by side."""
    steps = {step["checkpoint"]: step for step in report.trend}
    if not steps:
        return Section("Over the checkpoints", [])

    def of(key: str) -> dict[str, list[float]]:
        return {name: [step[key][name] for step in report.trend] for name in report.names}

    def texts(values: Sequence[object], show: Callable[[object], str]) -> dict[str, str | Cell]:
        return dict(zip(steps, map(show, values), strict=True))

    right = [step["accuracy"] for step in report.trend]
    labelled = any(finite(value) is not None for value in right)
    plots = [LinePlot("Mean influence", list(steps), of("influence"), "Mean influence")]
    means = {name: texts(values, number) for name, values in of("influence").items()}
    shares = {name: texts(values, percent) for name, values in of("dominance").items()}
    if labelled:
        line = {"accuracy": right}
        plots.append(
            LinePlot("Accuracy", list(steps), line, "Accuracy", share=True, modalities=False)
        )
        means["accuracy"] = texts(right, points)
    unit = UNITS[report.measure]
    return Section(
        "Over the checkpoints",
        [
            Grid(plots),
            table(f"Mean influence ({unit}) at each checkpoint", "checkpoint", means),
            table(_DOMINATED, "checkpoint", shares, media=WRITTEN),
        ],
    )


def _checkpoint(report: Results) -> Section:
    """What was loaded into the model, and what was not."""
    found = report.checkpoint
    if found is None:
        return Section("Checkpoint", [])
    rows = [
        ("path", found.path),
        ("sha256", found.sha256),
        ("tensors loaded", count(found.loaded)),
        ("missing, initial values kept", _listed(found.missing)),
        ("unexpected, ignored", _listed(found.unexpected)),
        ("of another shape, initial values kept", _listed(found.mismatched)),
    ]
    if found.duplicates:
        rows.append(("under a second name, ignored", _listed(found.duplicates)))
    title = "What the checkpoint gave to the model"
    return Section("Checkpoint", [Table(title, ("what", "value"), rows, prose=True)])


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {count(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    return f"{count(len(names))}: {', '.join(names[:_NAMED])}{more}"


def _provenance(report: Results) -> Section:
    """The command and everything else that the values depend on."""
    found = dict(report.environment)
    command = str(found.pop("command", ""))
    git, versions = found.pop("git", None), found.pop("versions", {})
    config = found.pop("config", {})
    if git:
        dirty = ", with uncommitted changes" if git["dirty"] else ""
        found["git"] = f"{git['commit']} on {git['branch']}{dirty}"
    if passed := found.pop("inputs", None):
        found["inputs"] = ", ".join(f"{name}: {column}" for name, column in passed.items())
    splits = ("the rest" if split is None else split for split in report.splits)
    inputs = zip(report.names, splits, strict=True)
    facts = {
        "head": report.head,
        "modalities": ", ".join(f"{name} {split}" for name, split in inputs),
        "baseline": report.drop,
        "measure": report.measure,
        **versions,
        **found,
    }
    parts: list[Part] = [Code(command)] if command else []
    for caption, values in (("What was run", facts), ("Configuration", config)):
        rows = [(str(key), setting(value)) for key, value in values.items()]
        parts.append(Table(caption, ("what", "value"), rows, prose=True, media=WRITTEN))
    return Section("How to reproduce this report", parts, folded=True)
