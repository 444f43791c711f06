"""Write the tables and the plot of ``docs/results.md`` from validations.

``python -m tools.results --tasks NAME=DIR ... --further NAME=DIR ... --tuning NAME=DIR ...``, where
each ``DIR`` is the output directory of a ``cmiei validate``; the page has the commands. Needs
matplotlib.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from cmiei_hooks.validation.intervals import ALPHA, Difference, holm, paired

matplotlib.use("svg")
from matplotlib import pyplot  # the backend must be chosen first

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->\n)", re.S)
PLOTTED = {
    "method": "D",
    "selfpaced": "o",
    "random gated": "X",
    "dropout 30 %": "s",
    "random 50 %": "^",
    "OGM-GE 0.5": "v",
}
"""The arms in the plot, and their marks."""
WATCHED = ("plain", "method", "stopped", "random", "relative", "strong", "selfpaced")
TRAINING = " in training"
"""How the names of what the hook saw in the last epoch end."""
SAFE = -0.3
"""Points of complete accuracy: below this a set counts as harmed."""

Report = Mapping[str, Any]
Reports = Mapping[str, Report]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the reports, and replace what is between the markers of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for group in ("tasks", "further", "tuning"):
        parser.add_argument(f"--{group}", nargs="*", default=[], metavar="NAME=DIR")
    args = parser.parse_args(arguments)
    tasks, further, tuning = (_reports(given) for given in (args.tasks, args.further, args.tuning))
    tables: dict[str, Callable[[], str]] = {
        "plain": lambda: plain_table(tasks),
        "means": lambda: means_table(tasks, further),
        "against": lambda: against_table({**tasks, **further}, "selfpaced"),
        "tasks": lambda: sets_tables(tasks),
        "further": lambda: sets_tables(further),
        "inequality": lambda: inequality_table(tasks),
        "sensitivity": lambda: sensitivity_table(tasks),
        "tuning": lambda: sets_tables(tuning),
    }
    page = DOCS / "results.md"
    text = page.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda block: f"{block[1]}\n{tables[block[2]]()}\n{block[3]}", text)
    page.write_text(new, encoding="utf-8")
    plot({**tasks, **further}, DOCS / "images" / "results.svg")


def _reports(given: Sequence[str]) -> dict[str, Report]:
    named = (entry.partition("=") for entry in given)
    return {
        name: json.loads(Path(where, "report.json").read_text(encoding="utf-8"))
        for name, _, where in named
    }


def metrics_of(report: Report) -> tuple[str, str]:
    """The names of the metric with all modalities, and of the worst with one missing."""
    names = report["metrics"]["plain"]
    worst = next(name for name in names if name.startswith("worst ") and name.endswith("missing"))
    return worst.removeprefix("worst ").removesuffix(" missing"), worst


def points(report: Report, arm: str, which: int) -> list[float]:
    """The metric of an arm in points, seed by seed: 0 for complete, 1 for the worst missing."""
    return [100 * value for value in report["metrics"][arm][metrics_of(report)[which]]]


def difference(reports: Reports, first: str, second: str, which: int) -> Difference:
    """First minus second in the mean over the sets, paired by seed."""
    return paired(*(_mean(reports, arm, which) for arm in (first, second)))


def _mean(reports: Reports, arm: str, which: int) -> list[float]:
    every = (points(report, arm, which) for report in reports.values())
    return [statistics.fmean(values) for values in zip(*every, strict=True)]


def arms_in(reports: Reports) -> list[str]:
    """The arms that ran on all of these sets, without those that cannot differ from plain."""
    shared = [set(report["metrics"]) for report in reports.values()]
    first: Report = next(iter(reports.values()), {"metrics": {}, "sensitivity": []})
    changed = {entry["first"] for entry in first["sensitivity"]} - {"method"}
    left_out = {"plain", "inert", "disabled"} | changed
    return [a for a in first["metrics"] if a not in left_out and all(a in s for s in shared)]


def _rows(rows: Sequence[tuple[str, Sequence[Difference | str]]]) -> list[str]:
    """The rows of a table; bold where the interval excludes zero, † where that is still so after
    Holm's correction over the table.
    """
    cells = [cell for _, row in rows for cell in row if isinstance(cell, Difference)]
    corrected = iter(holm([cell.p for cell in cells]))

    def shown(cell: Difference | str) -> str:
        if isinstance(cell, str):
            return cell
        text = f"{cell.mean:+.2f} ± {cell.detectable:.2f}"
        left = "†" if next(corrected) <= ALPHA else ""
        return f"**{text}**{left}" if cell.p <= ALPHA else text

    return [f"| {' | '.join([name, *map(shown, row)])} |" for name, row in rows]


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]) + "\n"


def plain_table(reports: Reports) -> str:
    """What plain training gives, and what the hook sees at its end."""
    rows = []
    for name, report in reports.items():
        seen = report["metrics"]["inert"]
        means = {key: statistics.fmean(seen[key]) for key in seen if key.endswith(TRAINING)}
        hists = [key for key in means if key.startswith("Hist_")]
        views = [key.removeprefix("Hist_").removesuffix(TRAINING) for key in hists]
        values = [f"{statistics.fmean(points(report, 'plain', which)):.1f}" for which in (0, 1)]
        values.append(", ".join(f"{view} {means[f'CI_{view}{TRAINING}']:.2f}" for view in views))
        values.append(" / ".join(f"{means[f'Hist_{view}{TRAINING}']:.2f}" for view in views))
        rows.append(f"| {' | '.join([f'{name} ({metrics_of(report)[0]})', *values])} |")
    return _table(["set", "complete", "worst missing", "CI", "Hist"], rows)


def means_table(tasks: Reports, further: Reports) -> str:
    """Each arm minus plain, in the mean over the sets of both groups."""
    rows: list[tuple[str, list[Difference | str]]] = []
    for arm in arms_in({**tasks, **further}):
        row: list[Difference | str] = []
        for reports in (tasks, further):
            row += [difference(reports, arm, "plain", which) for which in (0, 1)]
            each = [difference({n: r}, arm, "plain", 0).mean for n, r in reports.items()]
            row.append(f"{min(each):+.1f} ({sum(mean < SAFE for mean in each)})")
        rows.append((arm, row))
    heads = [
        f"{len(reports)} {kind}" for reports, kind in ((tasks, "tasks"), (further, "further sets"))
    ]
    kinds = ("complete", "worst missing", "smallest complete (sets harmed)")
    return _table(["arm", *(f"{h}: {k}" for h in heads for k in kinds)], _rows(rows))


def against_table(reports: Reports, first: str) -> str:
    """One arm minus every other, in the mean over all sets."""
    rows: list[tuple[str, list[Difference | str]]] = [
        (f"{first} minus {arm}", [difference(reports, first, arm, which) for which in (0, 1)])
        for arm in ["plain", *arms_in(reports)]
        if arm != first
    ]
    return _table(["", "complete", "worst missing"], _rows(rows))


def sets_tables(reports: Reports) -> str:
    """Each arm minus plain, set by set."""
    tables = []
    for which, title in enumerate(("Complete", "Worst with a modality missing")):
        rows: list[tuple[str, list[Difference | str]]] = [
            (arm, [difference({n: r}, arm, "plain", which) for n, r in reports.items()])
            for arm in arms_in(reports)
        ]
        tables.append(f"{title}:\n\n" + _table(["arm", *reports], _rows(rows)))
    return "\n".join(tables)


def inequality_table(reports: Reports) -> str:
    """How unequal the influences are at the end."""
    rows = []
    for arm in WATCHED:
        source = "inert" if arm == "plain" else arm
        values = [
            statistics.fmean(r["metrics"][source]["CI inequality" + TRAINING])
            for r in reports.values()
        ]
        rows.append(f"| {' | '.join([arm, *(f'{value:.2f}' for value in values)])} |")
    return _table(["arm", *reports], rows)


def sensitivity_table(reports: Reports) -> str:
    """The method with one setting changed, minus plain."""
    reports = {name: report for name, report in reports.items() if report["sensitivity"]}
    first: Report = next(iter(reports.values()), {"sensitivity": []})
    rows: list[tuple[str, list[Difference | str]]] = [
        (
            "as published" if arm == "method" else arm,
            [difference({n: r}, arm, "plain", w) for n, r in reports.items() for w in (0, 1)],
        )
        for arm in dict.fromkeys(entry["first"] for entry in first["sensitivity"])
    ]
    heads = [f"{name}: {which}" for name in reports for which in ("complete", "worst missing")]
    return _table(["setting", *heads], _rows(rows))


def plot(reports: Reports, path: Path) -> None:
    """Complete against worst, for each set, on a background that may be light or dark."""
    grey = "#808890"
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "results", "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), grey)
    with pyplot.rc_context({**style, "axes.edgecolor": grey}):
        columns = 5
        height = -(-len(reports) // columns)
        figure, panels = pyplot.subplots(height, columns, figsize=(11, 2.3 * height + 0.6))
        for panel in panels.flat[len(reports) :]:
            panel.set_visible(False)
        for panel, (name, report) in zip(panels.flat, reports.items(), strict=False):
            panel.axhline(0, color=grey, linewidth=0.6)
            panel.axvline(0, color=grey, linewidth=0.6)
            for colour, (arm, mark) in enumerate(PLOTTED.items()):
                x, y = (difference({name: report}, arm, "plain", which) for which in (0, 1))
                panel.errorbar(
                    x.mean,
                    y.mean,
                    xerr=x.detectable,
                    yerr=y.detectable,
                    marker=mark,
                    markersize=5,
                    elinewidth=0.8,
                    color=f"C{colour}",
                    label=arm,
                )
            panel.set_title(name, fontsize=10)
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=len(PLOTTED), frameon=False)
        figure.supxlabel("complete, points above plain")
        figure.supylabel("worst with a modality missing, points above plain")
        figure.tight_layout(rect=(0.01, 0.01, 1, 0.94))
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
