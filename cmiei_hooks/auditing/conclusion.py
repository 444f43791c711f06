"""The outcome of an audit in a few sentences and values."""

from __future__ import annotations

from ..reporting import Card, count, finite, number, p_value, percent, points
from ..units import UNITS
from .result_sections import NONE, shown
from .results import Results

__all__ = ["LEVEL", "cards", "conclusion", "warnings"]

LEVEL = 0.95
"""Of the intervals."""


def _leading(report: Results) -> str:
    return max(report.names, key=lambda name: report.dominance[name].mean)


def warnings(report: Results) -> list[str]:
    """What limits all values."""
    found = []
    if report.partial:
        found.append(
            "This report is partial: the audit ended before all data was read. The values are "
            f"those of the {count(report.n_samples)} samples measured until then."
        )
    if report.non_finite:
        found.append(
            f"{count(report.non_finite)} samples were left out because their logits were NaN or "
            "infinite."
        )
    return [*found, *report.notes]


def conclusion(report: Results) -> list[str]:
    """The outcome in sentences."""
    if not report.n_samples:
        return ["No sample could be measured."]
    unit = UNITS[report.measure]
    said = [
        *_said_of_leading(report, unit),
        f"{shown(report.triggered, percent)} of the samples are triggered: their dominant "
        f"influence is above {report.thresholds['ABS_THR']:g} {unit} and more than "
        f"{report.thresholds['REL_THR']:g} times the second largest.",
    ]
    if report.accuracy and report.accuracy_without:
        first = _leading(report)
        said.append(
            f"Accuracy is {points(report.accuracy.mean)} with all modalities and "
            f"{points(report.accuracy_without[first].mean)} without {first}."
        )
    return said


def _said_of_leading(report: Results, unit: str) -> list[str]:
    first, none = _leading(report), report.no_influence
    if none.mean == 1:
        return [
            f"No modality dominates any of {count(report.n_samples)} samples: no influence is "
            "above the rounding of float32."
        ]
    others = sorted(set(report.names) - {first}, key=lambda name: -report.influence[name].mean)
    means = ", ".join(f"{name} {number(report.influence[name].mean)}" for name in others)
    said = [
        f"{first} dominates {shown(report.dominance[first], percent)} of "
        f"{count(report.n_samples)} samples: their prediction changes more without it than "
        "without any other modality.",
        f"Its mean influence is {shown(report.influence[first])} {unit} ({means}).",
    ]
    chance = report.null[first]
    if finite(chance["p"]) is not None:
        verdict = "clearly more" if chance["p"] < 1 - LEVEL + 1e-12 else "not clearly more"
        said.append(
            f"That is {verdict} than the {number(chance['mean'])} {unit} that a head with shuffled "
            f"weights would give by chance (p {p_value(chance['p'])})."
        )
    if none.mean > 0:
        said.append(
            f"No modality dominates {shown(none, percent)} of the samples: no influence is above "
            "the rounding of float32."
        )
    return said


def cards(report: Results) -> list[Card]:
    """The most important values."""
    first, none = _leading(report), report.no_influence.mean
    share, mean = report.dominance[first].mean, report.influence[first].mean
    without = f", no modality for {percent(none)}" if none > 0 else ""
    shown_first = [
        Card("Most often dominant", first, f"for {percent(share)} of the samples{without}")
        if share > 0
        else Card("Most often dominant", NONE, "no modality has any influence"),
        Card("Its mean influence", number(mean), UNITS[report.measure]),
        Card("Triggered", percent(report.triggered.mean), "of the samples"),
    ]
    if report.accuracy:
        shown_first.append(Card("Accuracy", points(report.accuracy.mean), "with all modalities"))
    return shown_first
