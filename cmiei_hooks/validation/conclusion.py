"""The answer to the title of a validation's report, what limits it, and the cards below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

from ..reporting import Card, finite, number
from .findings import (
    Found,
    arm_words,
    compared,
    difference,
    is_lost,
    listed,
    main_arm,
    signed,
    titled,
)
from .intervals import NOT_SEEN

__all__ = ["cards", "caveats", "conclusion"]

_CARDS = 6
_NAMED = 3
"""How many metrics are named in a sentence."""


def conclusion(report: Found) -> str:
    """One sentence that answers whether it helps, and one on the controls."""
    arm = main_arm(report)
    if arm is None:
        return "Not known: no arm with C-MIEI ran."
    if not all(check["passed"] for check in report["checks"]):
        return "Not known: a check failed, so the runs say little."
    found = compared(report, arm, "plain")
    if report["arms"].get(arm, {}).get("strategy"):  # a peer: the title does not ask about it
        said = ", ".join(_by_verdict(found)) or "nothing can be said"
        return (
            f"Not known: no arm with C-MIEI ran. Against plain, {arm!r} ({arm_words(arm)}): {said}."
        )
    answer = _answer(found)
    if arm != "method":
        answer = f"{answer.removesuffix('.')} (arm {arm!r}: {arm_words(arm)})."
    return answer + _against_control(report, arm)


def _answer(found: Mapping[str, Found]) -> str:
    of = {verdict: _those(found, verdict) for verdict in ("better", "worse", NOT_SEEN, "not known")}
    better, worse = (_changes(found, of[verdict], verdict) for verdict in ("better", "worse"))
    unseen, unknown = (_few(of[verdict], found) for verdict in (NOT_SEEN, "not known"))
    if better and worse:
        answer = f"In part: {better}, but {worse}"
    elif better or worse:
        certain = not all(is_lost(found[metric]) for metric in of["better"])
        answer = f"{'Yes' if certain else 'Perhaps'}: {better}" if better else f"No: {worse}"
    elif unseen:
        answer, unseen = f"No difference was seen in {unseen}", ""
    else:
        answer, unknown = f"Not known: nothing can be said of {unknown}", ""
    if unseen:
        answer += f"; no difference was seen in {unseen}"
    if unknown:
        answer += f"; {unknown} cannot be compared"
    return f"{answer}."


def _those(found: Mapping[str, Found], verdict: str) -> list[str]:
    return [metric for metric, one in found.items() if one["verdict"] == verdict]


def _changes(found: Mapping[str, Found], metrics: Sequence[str], verdict: str) -> str:
    if len(metrics) > _NAMED:
        return f"{_few(metrics, found)} are {verdict}"
    changes = ((metric, found[metric]["mean"]) for metric in metrics)
    return listed(f"{m} {'rises' if d > 0 else 'falls'} by {number(abs(d))}" for m, d in changes)


def _few(metrics: Sequence[str], of_all: Sized) -> str:
    """The names, or how many there are."""
    if len(metrics) <= _NAMED:
        return listed(metrics)
    return f"{len(metrics)} of {len(of_all)} metrics"


def _controls(arm: str) -> tuple[str, ...]:
    """The controls of an arm, by their names; the first that ran is quoted."""
    return f"{arm} random", "random gated", "random", "dropout"


def _against_control(report: Found, arm: str) -> str:
    """Whether random modalities, in as many samples, do the same."""
    control = next((control for control in _controls(arm) if compared(report, arm, control)), "")
    said = _by_verdict(compared(report, arm, control))
    return f" Against {arm_words(control)}: {', '.join(said)}." if said else ""


def _by_verdict(found: Mapping[str, Found]) -> list[str]:
    return [
        f"{verdict} in {_few(metrics, found)}"
        for verdict in ("better", "worse", NOT_SEEN)
        if (metrics := _those(found, verdict))
    ]


def caveats(report: Found) -> list[str]:
    """What limits the answer."""
    arm, seeds = main_arm(report), len(report["seeds"])
    if arm is None:
        return []
    found, said = compared(report, arm, "plain"), []
    unseen = [
        f"{number(one['detectable'])} in {metric}"
        for metric, one in found.items()
        if one["verdict"] == NOT_SEEN and finite(one["detectable"])
    ]
    if unseen:
        said.append(
            f"with {seeds} seeds that differ as much as these, only a mean difference of at least "
            f"{listed(unseen[:_NAMED])} could have been seen."
        )
    if gone := [metric for metric, one in found.items() if is_lost(one)]:
        said.append(
            f"corrected for all {_tests(report)} verdicts of this report (Holm), the difference "
            f"from plain training in {_few(gone, found)} may be chance."
        )
    better = any(one["verdict"] == "better" for one in found.values())
    if better and not any(compared(report, arm, control) for control in _controls(arm)):
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
    if is_lost(found):
        verdict = f"{verdict}, not after Holm"
    note = f"{interval} {verdict}".strip()
    return Card(f"{titled(report, metric)}, against plain", signed(found["mean"]), note)
