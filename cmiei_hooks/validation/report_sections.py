"""The sections of a validation's report, made once for the terminal, Markdown and HTML."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
    Medium,
    Part,
    Report,
    Section,
    Table,
    estimate,
    finite,
    number,
    setting,
)

__all__ = ["arm_words", "in_sections"]

Found = Mapping[str, Any]
"""The content of report.json, or of one of its keys."""

_ARMS = {
    "plain": "nothing attached",
    "disabled": "ENABLED False",
    "inert": "attached, but never substitutes",
    "method": "C-MIEI",
    "stopped": "C-MIEI that stops after 70% of the training",
    "never ending": "C-MIEI that never ends",
    "stopped random": "a random modality in as many samples as in 'stopped'",
    "random": "a random modality in as many samples",
    "dropout": "a random modality set to zero in as many samples",
    "relative": "C-MIEI with RELATIVE and an end",
    "strong": "RELATIVE, K 1, P_MAX 1, REL_THR 1, no warm-up, until 60% of the training",
    "strong random": "a random modality in as many samples as in 'strong'",
}
_WATCHED = ("inert", "method", "never ending", "stopped", "relative", "strong")
"""The arms whose epochs are plotted: not the controls, which substitute samples at random."""

_FIRST = (("method", "plain"), ("method", "random"), ("method", "dropout"))
_ALL = (
    *_FIRST,
    ("method", "never ending"),
    ("stopped", "method"),
    ("stopped", "plain"),
    ("relative", "plain"),
    ("strong", "plain"),
)
"""The pairs of arms that get a verdict; the terminal has room for the first three."""

_COLOURS = {"better": 2, "worse": 1}
_TONES: Mapping[str, Literal["good", "bad"]] = {"better": "good", "worse": "bad"}
_PLAIN_TEXT: tuple[Medium, ...] = ("terminal", "markdown")


def arm_words(name: str) -> str:
    """What an arm is. An arm of the sensitivity is named by its setting."""
    return _ARMS.get(name, f"C-MIEI with {name}")


def in_sections(report: Found) -> Report:
    """The report as a reader sees it.

    Args:
        report: what ``validate`` returned.
    """
    seeds = report["seeds"]
    made = (
        Section(
            "Verdicts", [_verdicts(report, _FIRST, _PLAIN_TEXT), _verdicts(report, _ALL, ["html"])]
        ),
        Section("Checks", [_checks(report)]),
        Section("Paired differences", _differences(report)),
        _epochs(report),
        Section("Sensitivity", _sensitivity(report)),
        Section("All values", _values(report)),
        Section("How to reproduce this report", _provenance(report), folded=True),
    )
    return Report(
        f"Does C-MIEI help {report['train']}?",
        [section for section in made if section.parts],
        warnings=[
            f"Check failed: {check['name']}. {check['seen']}"
            for check in report["checks"]
            if not check["passed"]
        ],
        note=(
            f"{len(seeds)} seeds ({', '.join(map(str, seeds))}). Runs with the same seed are "
            "compared. In brackets: the 95% interval of the mean difference (Student's t). 'No "
            "difference seen' means that the interval contains zero, not that there is no "
            "difference. Each metric is judged on its own, so with many metrics some differ by "
            "chance."
        ),
    )


def _judged(report: Found) -> list[str]:
    """The metrics that can be better or worse."""
    return [name for name, sign in report["better"].items() if sign]


def _titled(report: Found, metric: str) -> str:
    return f"{metric} (less is better)" if report["better"].get(metric) == -1 else metric


def _compared(report: Found, first: str, second: str) -> dict[str, Found]:
    """The paired differences of two arms, by metric."""
    return {
        found["metric"]: found
        for found in report["comparisons"]
        if (found["first"], found["second"]) == (first, second)
    }


def _signed(value: object) -> str:
    known = finite(value)
    return DASH if known is None else f"{known:+.4f}"


def _difference(found: Found) -> str:
    return estimate(found["mean"], found["low"], found["high"], _signed)


def _verdicts(report: Found, pairs: Sequence[tuple[str, str]], media: Sequence[Medium]) -> Table:
    rows = [
        (f"{first} against {second}", _titled(report, metric), *_verdict(report, found[metric]))
        for first, second in pairs
        for found in [_compared(report, first, second)]
        for metric in _judged(report)
        if metric in found
    ]
    head = ("comparison", "metric", "verdict", "mean difference")
    return Table("Paired runs compared", head, rows, prose=True, media=media)


def _verdict(report: Found, found: Found) -> tuple[Cell, str]:
    seeds, verdict = len(report["seeds"]), found["verdict"]
    missing = seeds - found["n"]
    note = f"{missing} of {seeds} seeds gave no number" if missing else ""
    return Cell(verdict, note, tone=_TONES.get(verdict, "")), _difference(found)


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


def _differences(report: Found) -> list[Part]:
    pairs = dict.fromkeys((found["first"], found["second"]) for found in report["comparisons"])
    return [_forest(report, *pair) for pair in pairs]


def _forest(report: Found, first: str, second: str) -> Section:
    found = _compared(report, first, second)
    rows = [
        Dot(
            _titled(report, metric),
            _difference(found[metric]),
            found[metric]["mean"],
            found[metric]["low"],
            found[metric]["high"],
            colour=_COLOURS.get(found[metric]["verdict"], NEUTRAL),
        )
        for metric in _judged(report)
        if metric in found
    ]
    caption = (
        "Dot: mean difference. Whiskers: 95% interval. Triangle: better. Square: worse. Grey "
        "circle: no difference seen, or not known."
    )
    title = f"{arm_words(first)}, minus {arm_words(second)}"
    return Section(title, [DotPlot(title, rows, caption)])


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
        "Means over the seeds of what the hook measured in training. In 'inert', that is plain "
        "training. The controls, which substitute samples at random, are not shown.",
    )


def _tick(epoch: Found) -> str:
    """The epoch, or the first step of the window."""
    return f"epoch {epoch['epoch']:g}" if "epoch" in epoch else f"step {epoch['step']:g}"


def _curves(arms: Mapping[str, Sequence[Found]], prefix: str, title: str) -> Grid:
    plots = []
    for arm, epochs in arms.items():
        ticks = [_tick(epoch) for epoch in epochs]
        keys = [key for key in epochs[0] if key.startswith(prefix)]
        series = {k.removeprefix(prefix) or k: [e.get(k) for e in epochs] for k in keys}
        plots.append(LinePlot(f"{title}, {arm}", ticks, series, f"{arm}: {arm_words(arm)}"))
    return Grid(plots)


def _sensitivity(report: Found) -> list[Part]:
    by = {(found["first"], found["metric"]): found for found in report["sensitivity"]}
    arms = list(dict.fromkeys(arm for arm, _ in by))
    if len(arms) < 2:
        return []
    metrics, judged = report["metrics"], _judged(report)
    rows = []
    for arm in arms:
        unchanged = arm != "method" and metrics.get(arm) == metrics.get("method")
        name = "as configured" if arm == "method" else f"{arm}{' (changes nothing)' * unchanged}"
        found = (by.get((arm, metric)) for metric in judged)
        rows.append([name, *(DASH if one is None else _difference(one) for one in found)])
    head = ["setting", *(_titled(report, metric) for metric in judged)]
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
