"""The answer to the title of a validation's report, what limits it, and the cards below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..reporting import Card, finite, number
from .findings import (
    Found,
    arm_words,
    compared,
    corrected,
    difference,
    listed,
    lost,
    main_arm,
    signed,
    titled,
)
from .intervals import NOT_SEEN

__all__ = ["cards", "caveats", "conclusion"]

_CARDS = 6
_CONTROLS = ("random", "dropout")


def conclusion(report: Found) -> str:
    """One sentence that answers whether it helps, and one on the controls."""
    arm = main_arm(report)
    if arm is None:
        return "Not known: no arm with C-MIEI ran."
    if not all(check["passed"] for check in report["checks"]):
        return "Not known: a check failed, so the runs say little."
    found = compared(report, arm, "plain")
    answer = _answer(found)
    if arm != "method":
        answer = f"{answer.removesuffix('.')} (arm {arm!r}: {arm_words(arm)})."
    return " ".join([answer, *_against_controls(report, arm)])


def _answer(found: Mapping[str, Found]) -> str:
    verdicts = {metric: one["verdict"] for metric, one in found.items()}
    changed = {
        verdict: listed(_change(metric, found[metric]) for metric in _those(verdicts, verdict))
        for verdict in ("better", "worse")
    }
    unseen, unknown = _those(verdicts, NOT_SEEN), _those(verdicts, "not known")
    if changed["better"] and changed["worse"]:
        answer = f"In part: {changed['better']}, but {changed['worse']}"
    elif changed["better"]:
        answer = f"Yes: {changed['better']}"
    elif changed["worse"]:
        answer = f"No: {changed['worse']}"
    elif unseen:
        answer = f"No difference was seen in {listed(unseen)}"
        unseen = []
    else:
        answer, unknown = f"Not known: nothing can be said of {listed(found)}", []
    if unseen:
        answer += f"; no difference was seen in {listed(unseen)}"
    if unknown:
        answer += f"; {listed(unknown)} cannot be compared"
    return f"{answer}."


def _those(verdicts: Mapping[str, str], wanted: str) -> list[str]:
    return [metric for metric, verdict in verdicts.items() if verdict == wanted]


def _change(metric: str, found: Found) -> str:
    moves = "rises" if found["mean"] > 0 else "falls"
    return f"{metric} {moves} by {number(abs(found['mean']))}"


def _against_controls(report: Found, arm: str) -> Iterator[str]:
    """Whether random modalities, in as many samples, do the same."""
    for control in _CONTROLS:
        found = compared(report, arm, control)
        verdicts = {metric: one["verdict"] for metric, one in found.items()}
        said = [
            f"{verdict} in {listed(metrics)}"
            for verdict in ("better", "worse", NOT_SEEN)
            if (metrics := _those(verdicts, verdict))
        ]
        if said:
            yield f"Compared with {arm_words(control)}: {'; '.join(said)}."


def caveats(report: Found) -> list[str]:
    """What limits the answer."""
    arm, seeds = main_arm(report), len(report["seeds"])
    if arm is None:
        return []
    found, said = compared(report, arm, "plain"), []
    unseen = [
        f"{signed(one['detectable']).lstrip('+')} in {metric}"
        for metric, one in found.items()
        if one["verdict"] == NOT_SEEN and finite(one["detectable"])
    ]
    if unseen:
        said.append(
            f"with {seeds} seeds that differ as much as these, only a mean difference of at least "
            f"{listed(unseen)} could have been seen."
        )
    if gone := lost(report):
        named = listed(f"{one['first']} against {one['second']} in {one['metric']}" for one in gone)
        said.append(
            f"corrected for all {_tests(report)} verdicts (Holm), these differences may be chance: "
            f"{named}."
        )
    better = any(one["verdict"] == "better" for one in found.values())
    if better and not any(compared(report, arm, control) for control in _CONTROLS):
        said.append("no control ran: random modalities in as many samples may do the same.")
    return said


def _tests(report: Found) -> int:
    return sum(finite(found.get("p_holm")) is not None for found in report["comparisons"])


def cards(report: Found) -> list[Card]:
    """The differences from plain training."""
    arm = main_arm(report)
    shown = compared(report, arm, "plain") if arm else {}
    return [_card(report, metric, found) for metric, found in shown.items()][:_CARDS]


def _card(report: Found, metric: str, found: Found) -> Card:
    verdict, interval = found["verdict"], difference(found).partition(" ")[2]
    after = corrected(found)
    if after == NOT_SEEN:
        verdict = f"{verdict}, not after Holm"
    note = f"{interval} {verdict}".strip()
    return Card(f"{titled(report, metric)}, against plain", signed(found["mean"]), note)
