"""The sections of a validation's report, made once for the terminal, Markdown and HTML."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ..reporting import (
    DASH,
    NEUTRAL,
    WRITTEN,
    Cell,
    Code,
    Dot,
    DotPlot,
    Grid,
    LinePlot,
    Part,
    Report,
    Section,
    Table,
    axis_of,
    counted,
    day,
    finite,
    number,
    p_value,
    setting,
)
from .conclusion import cards, caveats, conclusion
from .findings import (
    Found,
    arm_words,
    compared,
    corrected,
    detectable,
    difference,
    judged,
    main_arm,
    signed,
    titled,
    verdict_cell,
)

__all__ = ["in_sections"]

_WATCHED = ("inert", "method", "never ending", "stopped", "relative", "strong", "selfpaced")
"""The arms whose epochs are plotted: not the controls, which substitute samples at random."""

_COLOURS = {"better": 2, "worse": 1}


def in_sections(report: Found) -> Report:
    """The report as a reader sees it.

    Args:
        report: what ``validate`` returned.
    """
    passed = all(check["passed"] for check in report["checks"])
    made = (
        Section("Verdicts", _verdicts(report), _VERDICTS),
        Section("Checks", [_checks(report)], folded=passed),
        Section("All differences", _differences(report), _DIFFERENCES),
        _epochs(report),
        Section("Sensitivity", _sensitivity(report)),
        Section("All values", _values(report), folded=True),
        Section("How to reproduce this report", _provenance(report), folded=True),
    )
    return Report(
        f"Does C-MIEI help {report['train']}?",
        [section for section in made if section.parts],
        subtitle=_subtitle(report),
        conclusion=conclusion(report),
        caveats=caveats(report),
        warnings=[
            f"Check failed: {check['name']}. {check['seen']}"
            for check in report["checks"]
            if not check["passed"]
        ],
        cards=cards(report),
        note=(
            "Runs with the same seed are compared. In brackets: the 95% interval of the mean "
            "difference (Student's t over the seeds). 'No difference seen' means that the interval "
            "contains zero, not that there is no difference; 'seen from' is the least mean "
            "difference that would have been seen."
        ),
    )


def _subtitle(report: Found) -> str:
    seeds, date = report["seeds"], report["environment"].get("date")
    said = [day(date)] if date else []
    return " \N{MIDDLE DOT} ".join(
        [*said, f"{counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))})"]
    )


_VERDICTS = (
    "A verdict judges one metric by itself: of twenty that do not differ about one looks as if it "
    "did. 'After Holm' corrects for that, over all metrics and pairs of arms: of reports without "
    "any true difference, at most one in twenty has one there. 'Seen from' is half of the width "
    "of the interval: the least mean difference that would have excluded zero, with seeds that "
    "vary as much as these. A true difference of just that size is missed about half of the time."
)


def _verdicts(report: Found) -> list[Part]:
    """A table for each pair that the answer rests on."""
    arm = main_arm(report)
    pairs = ((arm, second) for second in ("plain", "random", "dropout") if arm)
    head = ("metric", "verdict", "after Holm", "mean difference", "seen from")
    return [
        Table(
            f"{first} against {second}: {arm_words(first)}, minus {arm_words(second)}",
            head,
            [
                (
                    titled(report, metric),
                    verdict_cell(report, one),
                    corrected(one),
                    difference(one),
                    detectable(one),
                )
                for metric, one in found.items()
            ],
            prose=True,
        )
        for first, second in pairs
        if (found := compared(report, first, second))
    ]


def _checks(report: Found) -> Table:
    rows = [
        (
            check["name"],
            Cell("yes", tone="good") if check["passed"] else Cell("NO", tone="bad"),
            check["seen"],
        )
        for check in report["checks"]
    ]
    return Table("What was checked in the runs", ("check", "passed", "seen"), rows, prose=True)


_DIFFERENCES = (
    "The first arm minus the second. Each metric has an axis of its own, on which all pairs of "
    "arms are. Dot: mean difference. Whiskers: 95% interval. Triangle: better. Square: worse. Grey "
    "circle: no difference seen, or not known."
)


def _differences(report: Found) -> list[Part]:
    """A plot for each metric, and the same as a table."""
    pairs = dict.fromkeys((found["first"], found["second"]) for found in report["comparisons"])
    found = {pair: of_pair for pair in pairs if (of_pair := compared(report, *pair))}
    plots = [
        DotPlot(
            titled(report, metric),
            [_dot(*pair, of_pair[metric]) for pair, of_pair in found.items() if metric in of_pair],
            titled(report, metric),
        )
        for metric in judged(report)
    ]
    rows = [
        (
            f"{first} against {second}",
            titled(report, metric),
            verdict_cell(report, one),
            difference(one),
            p_value(one["p"]),
            p_value(one["p_holm"]),
        )
        for (first, second), of_pair in found.items()
        for metric, one in of_pair.items()
    ]
    head = ("comparison", "metric", "verdict", "mean difference", "p", "p after Holm")
    table = Table("The differences as a table", head, rows, prose=True, media=WRITTEN, folded=True)
    plots = [plot for plot in plots if plot.rows]
    return [Grid(plots), table] if plots else []


def _dot(first: str, second: str, found: Found) -> Dot:
    return Dot(
        f"{first} \N{MINUS SIGN} {second}",
        signed(found["mean"]),  # small plots have no room for the interval
        found["mean"],
        found["low"],
        found["high"],
        colour=_COLOURS.get(found["verdict"], NEUTRAL),
    )


def _epochs(report: Found) -> Section:
    arms = {arm: epochs for arm in _WATCHED if (epochs := report["epochs"].get(arm))}
    kinds = {
        "C_MIEI_Ratio": "Ratio: share of the samples substituted in the estimation steps",
        "CI_": "CI: mean influence",
        "Hist_": "Hist: share of the samples that each modality dominates",
    }
    return Section(
        "Over the epochs",
        [Section(title, [_curves(arms, key, title)]) for key, title in kinds.items() if arms],
        "Means over the seeds of what the hook measured in training. 'inert' measures and never "
        "acts, so it shows plain training. The controls, which substitute samples at random, are "
        "not shown. What the other arms are stands under 'All values'.",
    )


def _tick(epoch: Found) -> str:
    """The epoch, or the first step of the window."""
    return f"epoch {epoch['epoch']:g}" if "epoch" in epoch else f"step {epoch['step']:g}"


def _curves(arms: Mapping[str, Sequence[Found]], prefix: str, title: str) -> Grid:
    plots = []
    keys = [key for key in next(iter(arms.values()))[0] if key.startswith(prefix)]
    bounds = axis_of([e.get(key) for epochs in arms.values() for e in epochs for key in keys])
    for arm, epochs in arms.items():
        ticks = [_tick(epoch) for epoch in epochs]
        series = {k.removeprefix(prefix) or k: [e.get(k) for e in epochs] for k in keys}
        plots.append(LinePlot(f"{title}, {arm}", ticks, series, arm, bounds=bounds))
    return Grid(plots)


def _sensitivity(report: Found) -> list[Part]:
    by = {(found["first"], found["metric"]): found for found in report["sensitivity"]}
    arms = list(dict.fromkeys(arm for arm, _ in by))
    if len(arms) < 2:
        return []
    metrics, shown = report["metrics"], judged(report)
    rows = []
    for arm in arms:
        unchanged = arm != "method" and metrics.get(arm) == metrics.get("method")
        name = "as configured" if arm == "method" else f"{arm}{' (changes nothing)' * unchanged}"
        found = (by.get((arm, metric)) for metric in shown)
        rows.append([name, *(DASH if one is None else difference(one) for one in found)])
    head = ["setting", *(titled(report, metric) for metric in shown)]
    caption = "Difference from plain training, with one setting changed at a time"
    return [Table(caption, head, rows, media=WRITTEN)]


def _values(report: Found) -> list[Part]:
    metrics = report["metrics"]
    names = dict.fromkeys(name for found in metrics.values() for name in found)
    rows = [[name, *(_mean(found.get(name, ())) for found in metrics.values())] for name in names]
    runs = [
        (arm, arm_words(arm), f"{about['seconds']:.1f}") for arm, about in report["arms"].items()
    ]
    head = ("arm", "what it is", "seconds a run")
    return [
        Table("Means over the seeds", ["metric", *metrics], rows, media=WRITTEN),
        Table("The arms", head, runs, prose=True, media=WRITTEN),
    ]


def _mean(values: Sequence[object]) -> str:
    known = [v for v in map(finite, values) if v is not None]
    return number(statistics.fmean(known)) if known else DASH


def _provenance(report: Found) -> list[Part]:
    environment = report["environment"]
    facts = {
        "training function": report["train"],
        "its arguments": report["overrides"],
        "settings given": report["settings"],
        "threads of each run": environment.get("threads"),
        "sha256 of the function's file and of its data": environment.get("files"),
        **environment["versions"],
        "git": environment["git"],
    }
    parts: list[Part] = [Code(environment["command"])]
    for caption, values in (("What was run", facts), ("Settings in force", report["config"])):
        rows = [(key, setting(value)) for key, value in values.items()]
        parts.append(Table(caption, ("what", "value"), rows, prose=True, media=WRITTEN))
    return parts
