"""The section on the checkpoints of one training run, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..reporting import (
    WRITTEN,
    Cell,
    Grid,
    LinePlot,
    Section,
    finite,
    in_points,
    number,
    percent,
)
from ..units import UNITS
from .result_sections import table
from .results import Results

__all__ = ["DOMINATED", "trend"]

DOMINATED = "Share of the samples that each modality dominates"


def trend(report: Results) -> Section:
    """What each checkpoint loses without each modality, how often it is right, its influences."""
    title, steps = "Over the checkpoints", [step["checkpoint"] for step in report.trend]
    if not steps:
        return Section(title, [])
    unit, means = UNITS[report.measure], _of(report, "influence")
    right = [step["accuracy"] for step in report.trend]
    words, lost, show = _lost(report)
    moved = LinePlot("Mean influence", steps, means, f"Mean influence ({unit})")
    plots = [LinePlot(words, steps, lost, words)] if lost else [moved]
    columns: dict[str, Mapping[str, str | Cell]] = {}
    if any(finite(value) is not None for value in right):
        line, complete = {"accuracy": right}, "Accuracy with all modalities"
        plots.append(LinePlot(complete, steps, line, complete, share=True, modalities=False))
        columns["accuracy"] = _texts(steps, right, percent)
        words = f"{complete}; {words[:1].lower()}{words[1:]}"
    columns |= {f"without {name}": _texts(steps, values, show) for name, values in lost.items()}
    influences = {name: _texts(steps, values, number) for name, values in means.items()}
    dominance = _of(report, "dominance")
    shares = {name: _texts(steps, values, percent) for name, values in dominance.items()}
    return Section(
        title,
        [
            Grid(plots),
            table(words, "checkpoint", columns, folded=True),
            Section(
                "Influence at each checkpoint",
                [
                    Grid([moved] if lost else []),
                    table(f"Mean influence ({unit})", "checkpoint", influences),
                    table(DOMINATED, "checkpoint", shares, media=WRITTEN),
                ],
                folded=True,
            ),
        ],
    )


def _of(report: Results, key: str) -> dict[str, list[Any]]:
    """The values of each modality at each checkpoint; empty if a checkpoint has none."""
    if not all(step.get(key) for step in report.trend):
        return {}
    return {name: [step[key][name] for step in report.trend] for name in report.names}


def _lost(report: Results) -> tuple[str, dict[str, list[Any]], Callable[[object], str]]:
    """What is lost without each modality, in hundredths: what it is, the values, how to show."""
    kinds = (
        ("Points of accuracy lost without each modality", "accuracy_loss"),
        ("Points of rank-1 lost without each modality", "rank1_loss"),
        ("Percent of the predictions that change without each modality", "changed_predictions"),
    )
    for words, key in kinds:
        if found := _of(report, key):
            return words, {n: [100 * v for v in values] for n, values in found.items()}, _one
    return "", {}, _one


def _one(value: object) -> str:
    known = finite(value)
    return in_points(None if known is None else known / 100)


def _texts(
    steps: Sequence[str], values: Sequence[object], show: Callable[[object], str]
) -> dict[str, str | Cell]:
    return dict(zip(steps, map(show, values), strict=True))
