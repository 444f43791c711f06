"""The sections on consequences: accuracy and predictions without each modality, Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..reporting import (
    NEUTRAL,
    WRITTEN,
    Cell,
    Grid,
    Part,
    Section,
    count,
    finite,
    in_points,
    percent,
)
from ..units import UNITS
from .bootstrap import Interval
from .result_sections import Columns, dots, shown, table, texts
from .results import Pair, Results, Retrieval

__all__ = ["shapley", "without_each"]

_ALL = "all together"
_SEEN = 5e-4
"""Smaller differences of shares are not seen in a report."""
_TITLE = "Without each modality"


def without_each(report: Results) -> Section:
    """What happens to accuracy, rank-1 or the predictions when a modality is dropped."""
    if report.accuracy is not None and report.accuracy_loss is not None:
        return _accuracy(report, report.accuracy, report.accuracy_loss)
    parts: list[Part] = []
    lead = (
        "How often the predicted class is another one when the modality is dropped. Without labels "
        "it is not known which of the two is right."
    )
    if report.retrieval is not None:
        parts += _retrieval(report.retrieval)
        lead = (
            "Each sample is looked for among the others by what the head receives (cosine "
            "similarity). Rank-1: the most similar one has the same identity. It is not the "
            "protocol of a benchmark."
        )
    if report.changed_predictions:
        words = "Predictions that change without it"
        if report.retrieval is None:
            parts.append(dots(words, report.changed_predictions, percent, share=True))
        parts.append(
            table(
                "Predictions without each modality",
                "modality",
                {"predictions that change": texts(report.changed_predictions, percent)},
                "The share of the samples whose predicted class is another one without it.",
                folded=True,
            )
        )
    return Section(_TITLE, parts, lead)


def _retrieval(found: Retrieval) -> list[Part]:
    """Rank-1 without each modality."""
    columns: dict[str, Mapping[str, str | Cell]] = {
        "without it": texts({"none dropped": found.rank1, **found.rank1_without}, percent),
        "lost (points)": texts(found.rank1_loss, in_points),
    }
    words = "Points of rank-1 lost without it"
    return [
        Grid([dots(words, _in_hundredths(found.rank1_loss), _hundredths, caption=words)]),
        table(
            "Rank-1 without each modality",
            "modality",
            columns,
            f"Of {count(found.n)} samples, those whose most similar other sample has the same "
            "identity.",
            folded=True,
        ),
    ]


def _accuracy(report: Results, complete: Interval, loss: Mapping[str, Interval]) -> Section:
    columns: dict[str, Mapping[str, str | Cell]] = {
        "without it": texts({"none dropped": complete, **(report.accuracy_without or {})}, percent),
        "lost (points)": texts(loss, in_points),
        "with it alone": texts(report.accuracy_alone, percent),
    }
    changed = texts(report.changed_predictions, percent)
    more: Columns = {**columns, "predictions that change": changed}
    caption = "Accuracy without each modality"
    note = "Without it: dropped at the head. Alone: all others dropped."
    return Section(
        _TITLE,
        [
            _accuracy_plots(report, loss),
            table(caption, "modality", columns, note, media=("terminal",)),
            table(caption, "modality", more, note, folded=True, media=WRITTEN),
            _why_losses_do_not_add_up(complete, loss),
        ],
        f"With all modalities {shown(complete, percent)} of the predictions are right.",
    )


def _accuracy_plots(report: Results, loss: Mapping[str, Interval]) -> Grid:
    """What is lost without each modality, and what is left with it alone."""
    words = "Points of accuracy lost without it"
    plots = [dots(words, _in_hundredths(loss), _hundredths, caption=words)]
    if report.accuracy_alone:
        words = "Accuracy with it alone"
        plots.append(dots(words, report.accuracy_alone, percent, caption=words, share=True))
    return Grid(plots)


def _in_hundredths(values: Mapping[str, Interval]) -> dict[str, Interval]:
    """Percentage points, for an axis that has them."""
    return {n: Interval(100 * v.mean, 100 * v.low, 100 * v.high) for n, v in values.items()}


def _hundredths(value: object) -> str:
    known = finite(value)
    return in_points(None if known is None else known / 100)


def _why_losses_do_not_add_up(complete: Interval, loss: Mapping[str, Interval]) -> str:
    lost = sum(value.mean for value in loss.values())
    if not lost > 0 or abs(lost - complete.mean) < _SEEN:
        return ""
    why = (
        "where two modalities say the same, neither is missed"
        if lost < complete.mean
        else "what needs two modalities together is lost without either, and counts twice"
    )
    return (
        f"The losses add up to {in_points(lost)} points, not to the accuracy of "
        f"{percent(complete.mean)}: {why}. The Shapley values share out the whole."
    )


def _by_pair(pairs: Sequence[Pair]) -> dict[str, Interval]:
    return {" + ".join(pair.names): pair.interval for pair in pairs}


def shapley(report: Results) -> Section:
    """Shapley values and interactions, of the prediction and, with labels, of the accuracy."""
    if not (report.shapley and report.shapley_total):
        return Section("Shapley values", [])
    unit = UNITS[report.measure]
    right = report.shapley_accuracy
    total = {_ALL: report.shapley_accuracy_total} if report.shapley_accuracy_total else {}
    values: Columns = {
        f"of the prediction ({unit})": texts(report.shapley | {_ALL: report.shapley_total}),
        "of the accuracy (points)": texts(right and right | total, in_points),
    }
    plots = [dots("Shapley value", report.shapley, caption=f"Of the prediction ({unit})")]
    if right:
        points, words = _in_hundredths(right), "Of the accuracy (points)"
        plots.append(dots("Shapley value", points, _hundredths, caption=words))
    return Section(
        "Shapley values",
        [
            Grid(plots),
            table(
                "Shapley value of each modality",
                "modality",
                values,
                "What it adds on average over all combinations of the others.",
                folded=True,
            ),
            _why_shares_do_not_add_up(report),
            _interactions(report),
        ],
        "What a modality adds, on average over all combinations of the others: two that say the "
        "same hide each other when one is dropped, and share here.",
    )


def _why_shares_do_not_add_up(report: Results) -> str:
    total, none, complete = report.shapley_accuracy_total, report.accuracy_none, report.accuracy
    if not (total and none and complete) or not finite(total.mean) or none.mean < _SEEN:
        return ""
    return (
        f"The values of the accuracy add up to {in_points(total.mean)} points, not to the accuracy "
        f"of {percent(complete.mean)}: the head is right for {percent(none.mean)} of the samples "
        "when every modality is dropped, and that is due to none of them."
    )


def _interactions(report: Results) -> Section:
    pairs, unit = _by_pair(report.interactions), UNITS[report.measure]
    neutral = dict.fromkeys(pairs, NEUTRAL)
    together: Columns = {
        f"interaction ({unit})": texts(pairs),
        "of the accuracy (points)": texts(_by_pair(report.interactions_accuracy), in_points),
    }
    return Section(
        "Interactions",
        [
            dots("Interaction", pairs, colours=neutral),
            table(
                "Interaction of each pair",
                "pair",
                together,
                "What two modalities are worth together beyond each alone; below 0: redundant.",
            ),
        ],
        "Above zero, the two modalities complement each other: together they add more than each "
        "on its own. Below zero they are redundant: each can partly do the work of the other.",
        folded=True,
    )
