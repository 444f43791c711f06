"""The outcome of a comparison in one to three sentences, and in a few cards."""

from __future__ import annotations

from collections.abc import Sequence

from ..reporting import Card, finite, in_points, number, percent
from .results import Comparison, Line, Results

__all__ = ["cards", "conclusion", "signed_points"]

_MOST = 3
"""How many modalities are named in one sentence."""


def signed_points(value: object) -> str:
    """A difference of shares in points: ``+9.3``."""
    text = in_points(value)
    return f"+{text}" if (finite(value) or 0) > 0 and text.strip("0.") else text


def conclusion(report: Results) -> list[str]:
    """The outcome, consequences first; of several comparisons a sentence each."""
    if len(report.comparisons) > 1:
        return [" ".join(_in_short(report.reference, one)) for one in report.comparisons]
    (one,) = report.comparisons
    complete = [_of_complete(line) for line in one.of("accuracy")]
    return [_consequences(report.reference, one), *complete, *_of_dominance(one)]


def _in_short(reference: str, one: Comparison) -> list[str]:
    """Without what is not seen."""
    complete = [_of_complete(line) for line in one.of("accuracy") if line.seen]
    return [_consequences(reference, one), *complete]


def _consequences(reference: str, one: Comparison) -> str:
    """What changes where a modality is missing; without labels, in the influences."""
    accuracy = one.of("accuracy_without")
    lines = accuracy or one.of("influence")
    what = "accuracy" if accuracy else "mean influence"
    changed = sorted((x for x in lines if x.seen), key=lambda x: (not x.certain, -_size(x)))
    of = "without" if accuracy else "for"
    if not changed:
        each = "without any one modality" if accuracy else "for any modality"
        if lines and all(x.unknown for x in lines):
            return (
                f"Compared with {reference}, nothing can be said of the {what} of {one.name} "
                f"{each}: there is no interval."
            )
        return (
            f"Compared with {reference}, no difference is seen in the {what} of {one.name} {each}."
        )
    said = []
    for word, sign in (("higher", 1), ("lower", -1)):
        found = [x for x in changed if x.difference.mean * sign > 0]
        named = [f"{of} {x.modality} ({_values(x)})" for x in found[:_MOST]]
        if len(found) > _MOST:
            named.append(f"{of} {len(found) - _MOST} others")
        said += [f"{word} {_listed(named)}"] if named else []
    subject = f"the accuracy of {one.name}" if accuracy else f"the mean influence in {one.name}"
    return f"Compared with {reference}, {subject} is {', and '.join(said)}."


def _size(line: Line) -> float:
    return abs(line.difference.mean)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _values(line: Line) -> str:
    chance = "" if line.certain else ", perhaps by chance"
    if line.metric == "influence":
        return f"{number(line.value)} instead of {number(line.reference)}{chance}"
    change = f"{signed_points(line.difference.mean)} points"
    return f"{percent(line.value)} instead of {percent(line.reference)}, {change}{chance}"


_UNKNOWN = "whether that is chance is not known"


def _of_complete(line: Line) -> str:
    if line.seen:
        word = "higher" if line.difference.mean > 0 else "lower"
        return f"With all modalities accuracy is {word} ({_values(line)})."
    if line.unknown:
        values = f"{percent(line.value)} instead of {percent(line.reference)}"
        return f"With all modalities accuracy is {values}; {_UNKNOWN}."
    return (
        f"With all modalities no difference in accuracy is seen ({percent(line.value)} instead of "
        f"{percent(line.reference)})."
    )


def _of_dominance(one: Comparison) -> list[str]:
    """How often the modality that dominates most in the reference dominates."""
    line = _leading(one)
    shares = f"{percent(line.value)} of the samples instead of {percent(line.reference)}"
    if line.seen:
        chance = "" if line.certain else ", perhaps by chance"
        return [f"Modality {line.modality} dominates {shares}{chance}."]
    if line.unknown:
        return [f"Modality {line.modality} dominates {shares}; {_UNKNOWN}."]
    return [f"No difference is seen in how often {line.modality} dominates ({shares})."]


def _leading(one: Comparison) -> Line:
    return max(one.of("dominance"), key=lambda line: line.reference)


def cards(report: Results) -> list[Card]:
    """The most important values of a single comparison."""
    (one,) = report.comparisons
    shown = [_card("Accuracy", line) for line in one.of("accuracy")]
    if without := one.of("accuracy_without"):
        worst = min(without, key=lambda line: line.reference)
        shown.append(_card(f"Accuracy without {worst.modality}", worst))
    line = _leading(one)
    dominates = f"of the samples instead of {percent(line.reference)}: {line.verdict}"
    return [*shown, Card(f"{line.modality} dominates", percent(line.value), dominates)]


def _card(name: str, line: Line) -> Card:
    change = f"{signed_points(line.difference.mean)} points"
    values = f"{percent(line.value)} instead of {percent(line.reference)}"
    return Card(name, change, f"{values}: {line.verdict}")
