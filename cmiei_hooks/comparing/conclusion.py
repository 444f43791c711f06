"""The outcome of a comparison in one to three sentences, and in a few cards."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..reporting import Card, number, percent, points
from .results import Comparison, Line, Results

__all__ = ["cards", "conclusion", "signed_points"]

_MOST = 2
"""How many modalities are named in one sentence."""


def signed_points(value: float) -> str:
    """A difference of shares in points: ``+9.26``."""
    text = f"{100 * value:+.2f}"
    return text if text.strip("+-0.") else text.lstrip("+-")


def conclusion(report: Results) -> list[str]:
    """The outcome, consequences first; of several comparisons a sentence each."""
    several = len(report.comparisons) > 1
    said = []
    for one in report.comparisons:
        sentences = _of_accuracy(one) + _of_dominance(one)
        start = f"From {report.reference} to {one.name}, {sentences[0]}"
        said += [start] if several else [start, *map(_capital, sentences[1:])]
    return said


def _capital(sentence: str) -> str:
    """Of names nothing is changed: a sentence may begin with one."""
    known = ("with", "no ")
    return sentence[0].upper() + sentence[1:] if sentence.startswith(known) else sentence


def _of_accuracy(one: Comparison) -> list[str]:
    (complete,) = one.of("accuracy") or (None,)
    if complete is None:
        return []
    changed = [line for line in one.of("accuracy_without") if line.seen]
    changed.sort(key=lambda line: -abs(line.difference.mean))
    if changed:
        words = " and ".join(
            f"accuracy without {line.modality} {_moves(line)}" for line in changed[:_MOST]
        )
        more = len(changed) - _MOST
        first = f"{words}{f' ({more} more below)' if more > 0 else ''}."
    else:
        first = "no difference in accuracy is seen without any one of the modalities."
    if complete.seen:
        return [first, f"with all modalities it {_moves(complete)}."]
    return [
        first,
        f"with all modalities no difference is seen ({points(complete.reference)} and "
        f"{points(complete.value)}; {_interval(complete)}).",
    ]


def _moves(line: Line) -> str:
    word = "rises" if line.difference.mean > 0 else "falls"
    chance = "" if line.certain else ", perhaps by chance"
    before, after = points(line.reference), points(line.value)
    return f"{word} from {before} to {after} ({_interval(line)}{chance})"


def _interval(line: Line) -> str:
    mean, low, high = line.difference.mean, line.difference.low, line.difference.high
    if not math.isfinite(low):
        return f"{signed_points(mean)} points"
    return f"{signed_points(mean)} points, interval {signed_points(low)} to {signed_points(high)}"


def _of_dominance(one: Comparison) -> list[str]:
    """How often the modality that dominated most dominates now."""
    line = _leading(one.of("dominance"))
    shares = f"{percent(line.value)} of the samples instead of {percent(line.reference)}"
    if line.seen:
        return [
            f"{line.modality} dominates {shares}{'' if line.certain else ', perhaps by chance'}."
        ]
    (influence,) = (other for other in one.of("influence") if other.modality == line.modality)
    if influence.seen:
        word = "falls" if influence.difference.mean < 0 else "rises"
        return [
            f"{line.modality} dominates about as many samples as before, while its mean influence "
            f"{word} from {number(influence.reference)} to {number(influence.value)}."
        ]
    return [f"no difference is seen in how often {line.modality} dominates ({shares})."]


def _leading(lines: Sequence[Line]) -> Line:
    return max(lines, key=lambda line: line.reference)


def cards(report: Results) -> list[Card]:
    """The most important values of a single comparison."""
    (one,) = report.comparisons
    shown = []
    for line in one.of("accuracy"):
        shown.append(_card("Accuracy", line))
    if without := one.of("accuracy_without"):
        worst = min(without, key=lambda line: line.reference)
        shown.append(_card(f"Accuracy without {worst.modality}", worst))
    line = _leading(one.of("dominance"))
    shown.append(
        Card(
            f"{line.modality} dominates",
            percent(line.value),
            f"of the samples, instead of {percent(line.reference)}",
        )
    )
    return shown


def _card(name: str, line: Line) -> Card:
    change = f"{signed_points(line.difference.mean)} points"
    return Card(name, change, f"{points(line.value)} instead of {points(line.reference)}")
