"""The report as one HTML file: it opens offline, without scripts, fonts or anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .blocks import Report, document, dot_plot, figure, names_of, paragraph, table
from .context import checkpoint, reproduce, strata, trend, what_if
from .formatting import (
    clean,
    estimate,
    finite,
    intervals,
    number,
    p_value,
    part,
    percent,
    summary,
    warnings,
)
from .plots import histogram, text

__all__ = ["to_html"]


def to_html(report: Report) -> str:
    """The report as a whole HTML document.

    Args:
        report: the content of report.json. Null figures are shown as a dash, parts that are missing
            are left out, and every text is escaped.
    """
    sections = [
        (title, body)
        for title, make in (
            ("Influence", _influence),
            ("Distribution of the influence", _distributions),
            ("Dominant modality", _dominance),
            ("Shapley values and interactions", _shapley),
            ("Accuracy", _accuracy),
            ("Does the stand-in matter?", _baselines),
            ("What if the thresholds were others?", what_if),
            ("Groups of samples", strata),
            ("Over the epochs", trend),
            ("Checkpoint", checkpoint),
            ("How to get these figures again", reproduce),
        )
        if (body := make(report))
    ]
    title = f"Modality influence at {report.get('head', 'the head')}"
    return document(title, _top(report), sections)


def _top(report: Report) -> str:
    tiles = []
    shares, influence = part(report, "dominance"), part(report, "influence")
    known = [n for n in names_of(report) if finite(part(shares, n).get("mean")) is not None]
    if known:
        first = max(known, key=lambda name: shares[name]["mean"])
        share, mean = part(shares, first).get("mean"), part(influence, first).get("mean")
        tiles += [("most often dominant", first, f"{percent(share)} of the samples")]
        tiles += [("its mean influence", number(mean), report.get("unit", ""))]
    for key, words in (("triggered", "of the samples"), ("accuracy", "complete input")):
        if key in report:
            decimals = 2 if key == "accuracy" else 1
            tiles += [(key, percent(part(report, key).get("mean"), decimals), words)]
    alarms = [f'<p class="loud" role="note">{text(line)}</p>' for line in warnings(report)]
    boxes = "".join(
        f"<div><dt>{text(k)}</dt><dd>{text(v, 40)}<small>{text(w)}</small></dd></div>"
        for k, v, w in tiles
    )
    return (
        "".join(alarms)
        + f'<p class="lead">{text(" ".join(summary(report)))}</p>'
        + (f'<dl class="tiles">{boxes}</dl>' if boxes else "")
        + paragraph(intervals(report))
    )


def _influence(report: Report) -> str:
    names, unit = names_of(report), report.get("unit", "")
    influence, chance = part(report, "influence"), part(report, "null")
    lead = paragraph(
        "The head is run once with all modalities and once without each of them. The influence of "
        f"a modality is how far the prediction moves when it is missing ({report.get('measure')}, "
        f"in {unit}; it is replaced by: {report.get('drop')}). Zero: the head does not need it."
    )
    note = "Dot: mean; whiskers: interval."
    if chance:
        note += (
            " Grey band: chance, what the influence would be if the head's weights were shuffled "
            "over the features of the modality. A dot inside its band says nothing."
        )
    picture = dot_plot("Mean influence", names, influence, compare=lambda name: part(chance, name))
    rows = [
        (name, split, estimate(part(influence, name)))
        + ((estimate(part(chance, name)), p_value(part(chance, name).get("p"))) if chance else ())
        for name, split in zip(names, report.get("splits") or [None] * len(names), strict=False)
    ]
    place = "width" if all(isinstance(s, int) for s in report.get("splits") or ()) else "place"
    head = ["modality", place, f"influence ({unit})"]
    head += ["by chance", "p"] if chance else []
    return lead + figure(picture, note) + table("Mean influence", head, rows)


def _distributions(report: Report) -> str:
    found = {
        name: h
        for name, h in part(report, "histograms").items()
        if h and h.get("edges") and all(finite(edge) is not None for edge in h["edges"])
    }
    if not found:
        return ""
    names, panels = names_of(report), []
    for name, h in found.items():
        mean = part(report, "influence", name).get("mean")
        total, most = sum(h["counts"]), max(h["counts"], default=0)
        said = f"{name}: {total:,} samples, mean {number(mean)}, at most {most:,} in one bar"
        colour = names.index(name) if name in names else 0
        panels.append(figure(histogram(said, h["edges"], h["counts"], colour), said))
    return (
        paragraph(
            f"How the influence ({report.get('unit', '')}) spreads over the samples. Each bar is "
            "about three times as wide a range as the one on its left, from next to nothing to a "
            "prediction that turns over; the bars are as high as each plot allows."
        )
        + f'<div class="many">{"".join(panels)}</div>'
    )


def _dominance(report: Report) -> str:
    names, shares = names_of(report), part(report, "dominance")
    rows = [(name, estimate(part(shares, name), percent)) for name in names]
    rows.append(("triggered", estimate(part(report, "triggered"), percent)))
    return (
        paragraph(
            "The dominant modality of a sample is the one with the largest influence on it. With "
            f"{len(names)} equal modalities each would be dominant for about "
            f"{percent(1 / max(len(names), 1))} of the samples."
        )
        + figure(dot_plot("Share of samples", names, shares, percent, bounds=(0.0, 1.0)))
        + table("Share of samples that each modality dominates", ("modality", "share"), rows)
    )


def _pairs(report: Report, key: str, show: Callable[[object], str]) -> dict[str, Any]:
    found = report.get(key) or []
    return {" with ".join(map(clean, entry["pair"])): entry for entry in found}


def _shapley(report: Report) -> str:
    names, unit, values = names_of(report), report.get("unit", ""), part(report, "shapley")
    if not values:
        return ""
    of_accuracy = part(report, "shapley_accuracy")
    shown: list[tuple[Report, Callable[[object], str]]] = [(values, number)]
    shown += [(of_accuracy, lambda v: percent(v, 2))] if of_accuracy else []
    head = ("modality", f"Shapley value ({unit})", "of the accuracy")[: 1 + len(shown)]
    rows = [[n, *(estimate(part(f, n), show) for f, show in shown)] for n in names]
    if total := part(report, "shapley_total"):
        rows.append(["all together", estimate(total), *[""] * (len(shown) - 1)])
    body = (
        paragraph(
            "Two modalities that say the same hide each other: without one, nothing changes. "
            "The Shapley value is what a modality adds on average over all combinations of the "
            "others; the values add up to what all modalities do together."
        )
        + figure(dot_plot("Shapley value", names, values))
        + table("Shapley values", head, rows)
    )
    together = _pairs(report, "interactions", number)
    if together:
        accuracy = _pairs(report, "interactions_accuracy", percent)
        columns: list[list[object]] = [[pair, estimate(f)] for pair, f in together.items()]
        if accuracy:
            for row in columns:
                row.append(estimate(accuracy.get(str(row[0])), lambda v: percent(v, 2)))
        body += (
            "<h3>Interactions</h3>"
            + paragraph(
                "Above zero: two modalities do more together than each alone (they complete each "
                "other). Below zero: they do less (they say the same)."
            )
            + figure(dot_plot("Interaction", list(together), together, colours=False))
            + table(
                "Interactions", ("pair", unit, "of the accuracy")[: 2 + bool(accuracy)], columns
            )
        )
    return body


def _accuracy(report: Report) -> str:
    names, complete = names_of(report), part(report, "accuracy")
    without, alone = part(report, "accuracy_without"), part(report, "accuracy_alone")
    if not complete:
        return ""

    def show(value: object) -> str:
        return percent(value, 2)

    kinds = [(words, f) for words, f in (("without it", without), ("with it alone", alone)) if f]
    pictures = [
        f"<h3>Accuracy {words}</h3>"
        + figure(
            dot_plot(f"Accuracy {words}", names, f, show, lambda _: complete, (0.0, 1.0)),
            f"Grey band: the complete input, {estimate(complete, show)}.",
        )
        for words, f in kinds
    ]
    rows = [["all modalities", *[estimate(complete, show)] * len(kinds)]]
    rows += [[n, *(estimate(part(f, n), show) for _, f in kinds)] for n in names]
    return (
        paragraph(
            "How often the prediction is right when a modality is missing, and when it is alone."
        )
        + "".join(pictures)
        + table("Accuracy", ("modality", *(words for words, _ in kinds)), rows)
    )


def _baselines(report: Report) -> str:
    names, found = names_of(report), part(report, "baselines")
    if not found:
        return ""
    rows = [[kind, *(estimate(part(f, n)) for n in names)] for kind, f in found.items()]
    body = paragraph(
        "A missing modality must be replaced by something. If zeros, the mean and the features of "
        "another sample (permuted) tell different stories, the influence depends on that choice."
    ) + table(f"Influence ({report.get('unit', '')}) by stand-in", ("stand-in", *names), rows)
    agreed = [
        (
            " and ".join(map(clean, entry["pair"])),
            estimate(entry.get("same_dominant"), percent),
            number(entry.get("rank_correlation")),
        )
        for entry in report.get("agreement") or []
    ]
    head = ("stand-ins", "same dominant modality", "rank correlation")
    return body + (table("How far they agree (1: the same order)", head, agreed) if agreed else "")
