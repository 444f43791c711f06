"""The sections on influence: its means beside chance, dominance, and the choice of baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    Section,
    Table,
    count,
    estimate,
    finite,
    number,
    p_value,
    percent,
)
from ..units import UNITS
from .bootstrap import Interval
from .results import Results
from .samples import NULL_DRAWS, P_FLOOR

__all__ = [
    "NONE",
    "Columns",
    "baselines",
    "dots",
    "influence",
    "shown",
    "table",
    "texts",
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
    note: str = "",
    *,
    long: bool = False,
    folded: bool = False,
    media: Sequence[Medium] = ALL,
) -> Table:
    """A table from its columns.

    Args:
        caption: what the values are.
        rows: what a row is, the title of the first column.
        columns: by title, the cells by the name of their row. Empty columns are left out.
        note: what the columns are.
        long: whether a medium may cut the table.
        folded: whether a plot shows the same, so that HTML shows the caption only.
        media: where it is shown.
    """
    known = {title: cells for title, cells in columns.items() if cells}
    names = dict.fromkeys(name for cells in known.values() for name in cells)
    body = [[name, *(cells.get(name, "") for cells in known.values())] for name in names]
    return Table(caption, [rows, *known], body, long=long, folded=folded, media=media, note=note)


def texts(values: Mapping[str, Interval] | None, show: Show = number) -> dict[str, str | Cell]:
    """The values as the cells of a column."""
    return {name: shown(value, show) for name, value in (values or {}).items()}


def dots(
    label: str,
    values: Mapping[str, Interval],
    show: Show = number,
    bands: Mapping[str, Interval] | None = None,
    caption: str = "",
    colours: Mapping[str, int] | None = None,
    **axis: Any,
) -> DotPlot:
    """A row for each value; ``bands`` are drawn behind them, to compare with.

    Args:
        label: what the values are.
        values: by the name of the row.
        show: how a value is written.
        bands: a range for each of some rows.
        caption: what stands beside the plot.
        colours: of each row; None: the rows are the modalities, each in its colour.
        **axis: ``share`` or ``bounds`` of the plot.
    """
    rows = []
    for position, (name, value) in enumerate(values.items()):
        behind = (bands or {}).get(name)
        band = (behind.low, behind.high) if behind else (None, None)
        colour = position if colours is None else colours[name]
        text = shown(value, show)
        rows.append(Dot(name, text, value.mean, value.low, value.high, band=band, colour=colour))
    return DotPlot(label, rows, caption, **axis)


def influence(report: Results) -> Section:
    """The mean influence of each modality beside chance, and how often it is the dominant one."""
    unit = UNITS[report.measure]
    chance = {n: Interval(v["mean"], v["low"], v["high"]) for n, v in report.null.items()}
    first = max(int(v["n"]) if finite(v["n"]) else 0 for v in report.null.values())
    some = 0 < first < report.n_samples
    there = {name: number(null["influence"]) for name, null in report.null.items()}
    whole: Columns = {f"influence ({unit})": texts(report.influence)}
    beside: Columns = {
        f"chance ({unit})": texts(chance),
        "p": {name: _p(null["p"]) for name, null in report.null.items()},
    }
    written: Columns = {**whole, f"of the first {count(first)}": there if some else {}, **beside}
    words, caption = f"Mean influence ({unit})", "Influence beside chance"
    note = (
        "Influence: how far the prediction moves without the modality; 0: not at all. Chance: the "
        f"same with shuffled weights, mean and range of {NULL_DRAWS} shuffles. p: how often chance "
        f"is as large, at least {P_FLOOR:.2f}."
    )
    if some:
        note += f" Chance and p are of the first {count(first)} samples."
    shares = _shares(report)
    colours = {name: k for k, name in enumerate(report.names)} | {NONE: NEUTRAL}
    often = "Dominant modality, share of the samples"
    return Section(
        "Influence",
        [
            Grid(
                [
                    dots(words, report.influence, bands=chance, caption=words),
                    dots(often, shares, percent, caption=often, colours=colours, share=True),
                ]
            ),
            table(caption, "modality", {**whole, **beside}, note, media=("terminal",)),
            table(caption, "modality", written, note, folded=True, media=WRITTEN),
            table(
                "Dominant modality",
                "modality",
                {"dominant for": texts(shares, percent)},
                "The share of the samples that move most without it."
                + (f" {NONE}: no influence is above the rounding." if NONE in shares else ""),
                folded=True,
            ),
            _distribution(report),
        ],
        f"How far the prediction moves ({report.measure}) when the head runs without the modality "
        f"(baseline: {report.drop}), and for how many samples it moves most. Grey band: chance, "
        f"the same with shuffled weights{f', over the first {count(first)} samples' * some}. A dot "
        "inside its band is by itself no evidence that the head uses the modality.",
    )


def _shares(report: Results) -> dict[str, Interval]:
    """The share that each modality dominates, and that none does, if there are such samples."""
    none = {NONE: report.no_influence} if report.no_influence.mean > 0 else {}
    return report.dominance | none


def _p(value: object) -> str:
    """At its floor, it is only known that it is not larger."""
    known = finite(value)
    at_floor = known is not None and known <= P_FLOOR + 1e-12
    return f"\N{LESS-THAN OR EQUAL TO} {p_value(P_FLOOR)}" if at_floor else p_value(value)


def _distribution(report: Results) -> Section:
    """A histogram for each modality."""
    plots = []
    for colour, name in enumerate(report.names):
        counts, edges = report.histograms[name]["counts"], report.histograms[name]["edges"]
        caption = f"{name}: mean {number(report.influence[name].mean)}"
        plots.append(Histogram(name, edges, counts, colour, caption))
    return Section(
        "Distribution over the samples",
        [Grid(plots)],
        f"Influence in {UNITS[report.measure]}. The edges grow about threefold from bar to bar. "
        "The tallest bar fills its plot: compare the shapes, not the heights.",
        folded=True,
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
            _agreed(report),
            table(
                "How far the baselines agree",
                "baselines",
                agreement,
                "Same dominant modality: for how many samples. Rank correlation: how alike they "
                "order the influences; 1: equally.",
                folded=True,
            ),
            table(
                f"Mean influence ({UNITS[report.measure]}) with each baseline",
                "modality",
                {kind: texts(values) for kind, values in report.baselines.items()},
                folded=True,
                media=WRITTEN,
            ),
        ],
    )


def _agreed(report: Results) -> str:
    """The best and the worst agreement in a sentence."""
    known = [pair for pair in report.agreement if finite(pair.interval.mean) is not None]
    if not known:
        return ""
    ordered = sorted(known, key=lambda pair: pair.interval.mean)
    ends = [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered
    each = " to ".join(f"{percent(p.interval.mean, 0)} ({' and '.join(p.names)})" for p in ends)
    return (
        "A dropped modality can be replaced by zeros, by the mean of all samples, or by the "
        "features of another sample (permuted). These baselines find the same modality dominant "
        f"for {each} of the samples."
    )
