"""The sections with results: influence, dominance, Shapley values, accuracy, baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..reporting import (
    ALL,
    DASH,
    NEUTRAL,
    WRITTEN,
    Cell,
    Dot,
    DotPlot,
    Grid,
    Histogram,
    Medium,
    Part,
    Section,
    Table,
    estimate,
    number,
    p_value,
    percent,
    points,
)
from ..units import UNITS
from .bootstrap import Interval
from .results import Pair, Results

__all__ = [
    "NONE",
    "accuracy",
    "baselines",
    "distribution",
    "dominance",
    "influence",
    "shapley",
    "shown",
    "table",
]

NONE = "(none)"
"""The row of the samples without a dominant modality; a modality may be called none."""

Show = Callable[[object], str]
Columns = Mapping[str, Mapping[str, str | Cell]]


def shown(value: Interval | None, show: Show = number) -> str:
    """A mean with its interval as text."""
    return DASH if value is None else estimate(value.mean, value.low, value.high, show)


def table(
    caption: str,
    rows: str,
    columns: Columns,
    *,
    long: bool = False,
    media: Sequence[Medium] = ALL,
) -> Table:
    """A table from its columns.

    Args:
        caption: what the values are.
        rows: what a row is, the title of the first column.
        columns: by title, the cells by the name of their row. Empty columns are left out.
        long: whether a medium may cut the table.
        media: where it is shown.
    """
    known = {title: cells for title, cells in columns.items() if cells}
    names = dict.fromkeys(name for cells in known.values() for name in cells)
    body = [[name, *(cells.get(name, "") for cells in known.values())] for name in names]
    return Table(caption, [rows, *known], body, long=long, media=media)


def _texts(values: Mapping[str, Interval] | None, show: Show = number) -> dict[str, str | Cell]:
    return {name: shown(value, show) for name, value in (values or {}).items()}


def _dots(
    label: str,
    values: Mapping[str, Interval],
    show: Show = number,
    bands: Mapping[str, Interval] | None = None,
    caption: str = "",
    modalities: bool = True,
) -> DotPlot:
    """A row for each value; ``bands`` are drawn behind them, to compare with."""
    rows = []
    for colour, (name, value) in enumerate(values.items()):
        behind = (bands or {}).get(name)
        rows.append(
            Dot(
                name,
                shown(value, show),
                value.mean,
                value.low,
                value.high,
                band=(behind.low, behind.high) if behind else (None, None),
                colour=colour if modalities else NEUTRAL,
            )
        )
    return DotPlot(label, rows, caption, share=show is not number)


def influence(report: Results) -> Section:
    """The mean influence of each modality, beside chance."""
    unit = UNITS[report.measure]
    chance = {n: Interval(v["mean"], v["low"], v["high"]) for n, v in report.null.items()}
    columns: Columns = {
        f"influence ({unit})": _texts(report.influence),
        f"by chance ({unit})": _texts(chance),
        "p": {name: p_value(null["p"]) for name, null in report.null.items()},
    }
    return Section(
        "Influence",
        [
            _dots(
                "Mean influence",
                report.influence,
                bands=chance,
                caption="Dot: mean. Whiskers: interval. Grey band: chance, the influence when the "
                "head's weights are shuffled over the features of the modality. A dot inside its "
                "band is no evidence that the head uses the modality.",
            ),
            table("Mean influence of each modality", "modality", columns),
        ],
        "The head is run once with all modalities and once without each of them. The influence of "
        f"a modality is how far the prediction moves ({report.measure}, in {unit}) when the "
        f"modality is dropped (baseline: {report.drop}). At 0 the head does not need it.",
    )


def distribution(report: Results) -> Section:
    """A histogram for each modality."""
    plots = []
    for colour, name in enumerate(report.names):
        counts, edges = report.histograms[name]["counts"], report.histograms[name]["edges"]
        caption = f"{name}: mean {number(report.influence[name].mean)}"
        plots.append(Histogram(name, edges, counts, colour, caption))
    return Section(
        "Distribution of the influence",
        [Grid(plots)],
        f"How the influence ({UNITS[report.measure]}) is spread over the samples. The edges grow "
        "about threefold from bar to bar. The tallest bar fills its plot, so compare the shapes of "
        "the plots, not their heights.",
    )


def dominance(report: Results) -> Section:
    """How often each modality is the dominant one."""
    shares = dict(report.dominance)
    none = {NONE: report.no_influence} if report.no_influence.mean > 0 else {}
    return Section(
        "Dominant modality",
        [
            _dots("Share of the samples", shares | none, percent),
            table(
                "Share of the samples that each modality dominates, and share that is triggered",
                "modality",
                {
                    "share of samples": _texts(
                        shares | none | {"triggered": report.triggered}, percent
                    )
                },
            ),
        ],
        "The dominant modality of a sample is the one with the largest influence on its "
        f"prediction. {len(report.names)} equally influential modalities would each dominate about "
        f"{percent(1 / len(report.names))} of the samples."
        + (f" {NONE}: no influence is above the rounding of float32." if none else ""),
    )


def _by_pair(pairs: Sequence[Pair]) -> dict[str, Interval]:
    return {" + ".join(pair.names): pair.interval for pair in pairs}


def shapley(report: Results) -> Section:
    """Shapley values and interactions, of the prediction and, with labels, of the accuracy."""
    if not (report.shapley and report.shapley_total):
        return Section("Shapley values", [])
    unit, pairs = UNITS[report.measure], _by_pair(report.interactions)
    values: Columns = {
        f"Shapley value ({unit})": _texts(report.shapley | {"all together": report.shapley_total}),
        "Shapley value (accuracy)": _texts(report.shapley_accuracy, points),
    }
    together: Columns = {
        f"interaction ({unit})": _texts(pairs),
        "interaction (accuracy)": _texts(_by_pair(report.interactions_accuracy), points),
    }
    interactions = Section(
        "Interactions",
        [
            _dots("Interaction", pairs, modalities=False),
            table("Interaction of each pair of modalities", "pair", together),
        ],
        "Above zero, the two modalities complement each other: together they add more than each "
        "on its own. Below zero they are redundant: each can partly do the work of the other.",
    )
    return Section(
        "Shapley values",
        [
            _dots("Shapley value", report.shapley),
            table("Shapley value of each modality", "modality", values),
            interactions,
        ],
        "Two redundant modalities hide each other: without one of them, little changes. The "
        "Shapley value is what a modality adds on average over all combinations of the others. "
        "The values add up to what all modalities contribute together.",
    )


def accuracy(report: Results) -> Section:
    """Accuracy without each modality, and with it alone."""
    complete = report.accuracy
    if complete is None:
        return Section("Accuracy", [])
    kinds = {"without it": report.accuracy_without, "with it alone": report.accuracy_alone}
    parts: list[Part] = []
    columns: dict[str, Mapping[str, str | Cell]] = {}
    for words, values in kinds.items():
        if values:
            bands = dict.fromkeys(values, complete)
            caption = f"Accuracy {words}. Grey band: all modalities, {shown(complete, points)}."
            parts.append(_dots(f"Accuracy {words}", values, points, bands, caption))
            columns[words] = _texts({"all modalities": complete, **values}, points)
    return Section(
        "Accuracy",
        [*parts, table("Accuracy without each modality, and with it alone", "modality", columns)],
        "How often the prediction is right when modalities are dropped.",
    )


def baselines(report: Results) -> Section:
    """Influence by baseline, and how far the baselines agree."""
    pairs = {" and ".join(pair.names): pair for pair in report.agreement}
    agreement: Columns = {
        "same dominant modality": {n: shown(p.interval, percent) for n, p in pairs.items()},
        "rank correlation": {n: number(p.rank_correlation) for n, p in pairs.items()},
    }
    return Section(
        "Choice of the baseline",
        [
            table(
                f"Mean influence ({UNITS[report.measure]}) with each baseline",
                "modality",
                {kind: _texts(values) for kind, values in report.baselines.items()},
                media=WRITTEN,
            ),
            table("How far the baselines agree", "baselines", agreement),
        ],
        "A dropped modality is replaced by a baseline: zeros, the mean of all samples, or the "
        "features of another sample (permuted). If the baselines disagree, the influence depends "
        "on that choice.",
    )
