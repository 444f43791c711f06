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
    "dominance",
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
        long: whether a medium may cut the table.
        folded: whether a plot shows the same, so that HTML shows the caption only.
        media: where it is shown.
    """
    known = {title: cells for title, cells in columns.items() if cells}
    names = dict.fromkeys(name for cells in known.values() for name in cells)
    body = [[name, *(cells.get(name, "") for cells in known.values())] for name in names]
    return Table(caption, [rows, *known], body, long=long, folded=folded, media=media)


def texts(values: Mapping[str, Interval] | None, show: Show = number) -> dict[str, str | Cell]:
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
    for number_, (name, value) in enumerate(values.items()):
        behind = (bands or {}).get(name)
        band = (behind.low, behind.high) if behind else (None, None)
        colour = number_ if colours is None else colours[name]
        text = shown(value, show)
        rows.append(Dot(name, text, value.mean, value.low, value.high, band=band, colour=colour))
    return DotPlot(label, rows, caption, **axis)


def influence(report: Results) -> Section:
    """The mean influence of each modality, beside chance."""
    unit = UNITS[report.measure]
    chance = {n: Interval(v["mean"], v["low"], v["high"]) for n, v in report.null.items()}
    columns: Columns = {
        f"influence ({unit})": texts(report.influence),
        f"chance ({unit})": texts(chance),
        "p": {name: _p(null["p"]) for name, null in report.null.items()},
    }
    return Section(
        "Influence",
        [
            dots(
                "Mean influence",
                report.influence,
                bands=chance,
                caption="Whiskers: interval. Grey band: chance. A dot inside its band is no "
                "evidence that the head uses the modality.",
            ),
            table(
                "How far the prediction moves without the modality (0: not at all). Chance: the "
                "same where its features meet shuffled weights, mean and range of "
                f"{NULL_DRAWS} shuffles. p: how often chance is as large; {P_FLOOR:.2f} is the "
                "least it can be",
                "modality",
                columns,
                folded=True,
            ),
            _distribution(report),
        ],
        f"How far the prediction moves ({report.measure}, in {unit}) when the head runs without "
        f"the modality (baseline: {report.drop}). At 0 the head does not need it.",
    )


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


def dominance(report: Results) -> Section:
    """How often each modality is the dominant one."""
    none = {NONE: report.no_influence} if report.no_influence.mean > 0 else {}
    shares = report.dominance | none
    colours = {name: k for k, name in enumerate(report.names)} | {NONE: NEUTRAL}
    lead = (
        "The dominant modality of a sample is the one with the largest influence on its "
        f"prediction. {len(report.names)} equally influential modalities would each dominate about "
        f"{percent(1 / len(report.names), 0)} of the samples."
    )
    return Section(
        "Dominant modality",
        [
            dots("Share of the samples", shares, percent, colours=colours, share=True),
            table(
                "Share of the samples on which the modality has the largest influence"
                + (f"; {NONE}: no influence is above the rounding of float32" if none else ""),
                "modality",
                {"dominant for": texts(shares, percent)},
                folded=True,
            ),
        ],
        lead,
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
                "For how many samples two baselines find the same modality dominant, and how "
                "alike they order all influences (1: equally)",
                "baselines",
                agreement,
            ),
            table(
                f"Mean influence ({UNITS[report.measure]}) with each baseline",
                "modality",
                {kind: texts(values) for kind, values in report.baselines.items()},
                folded=True,
                media=WRITTEN,
            ),
        ],
        "A dropped modality is replaced by a baseline: zeros, the mean of all samples, or the "
        "features of another sample (permuted). Where they disagree, the influence depends on that "
        "choice.",
    )
