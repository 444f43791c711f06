"""The report of a validation as one HTML file, and its verdicts in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..reporting import (
    DASH,
    NEUTRAL,
    Report,
    Row,
    document,
    dots,
    estimate,
    figure,
    finite,
    legend,
    lines,
    number,
    paragraph,
    part,
    plain,
    table,
    text,
)

__all__ = ["VERDICTS", "arm_words", "comparisons", "judged", "titled", "to_html"]

_ARMS = {
    "plain": "nothing attached",
    "disabled": "ENABLED False",
    "inert": "attached, never acts",
    "method": "C-MIEI",
    "stopped": "C-MIEI that stops after 70 % of the epochs",
    "never ending": "C-MIEI without END_EPOCH",
    "stopped random": "as many samples as 'stopped', of a random modality",
    "random": "as many samples, of a random modality",
    "dropout": "as many samples, a random modality set to zero",
    "relative": "the same with an end, and RELATIVE",
    "strong": "RELATIVE, K 1, P_MAX 1, REL_THR 1, WARMUP_EPOCHS 0, until 60 % of the epochs",
    "strong random": "as many samples as 'strong', of a random modality",
}


def arm_words(name: str) -> str:
    """What an arm is; one of the sensitivity says it itself."""
    return _ARMS.get(name, f"C-MIEI with {name}")


def to_html(report: Report) -> str:
    """The report as a whole HTML document; every text is escaped."""
    sections = [
        ("Checks", _checks(report)),
        ("Paired differences", _forest(report)),
        ("Over the epochs", _curves(report)),
        ("Sensitivity", _sensitivity(report)),
        ("All figures", _figures(report)),
        ("How to get these figures again", _reproduce(report)),
    ]
    return document(
        f"Does C-MIEI help {report.get('train', 'this training')}?",
        _top(report),
        [(title, body) for title, body in sections if body],
    )


def judged(report: Report) -> list[str]:
    """The metrics that can be better or worse."""
    return [name for name, sign in part(report, "better").items() if sign]


def titled(report: Report, metric: str) -> str:
    """The metric, and if less of it is better."""
    return f"{metric} (less is better)" if part(report, "better").get(metric) == -1 else metric


def comparisons(report: Report, first: str, second: str) -> dict[str, Mapping[str, Any]]:
    """The paired differences of two arms, by metric."""
    return {
        c["metric"]: c
        for c in report.get("comparisons") or []
        if (c["first"], c["second"]) == (first, second)
    }


def _top(report: Report) -> str:
    failed = [check for check in report.get("checks") or [] if not check["passed"]]
    alarms = "".join(
        f'<p class="loud" role="note">{text(c["name"])}: not so. {text(c["seen"])}</p>'
        for c in failed
    )
    seeds = report.get("seeds") or []
    intro = paragraph(
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}); runs with the same seed are compared "
        "with each other. In brackets: the 95 % interval of the mean difference (Student's t). "
        "'No difference seen' means that the interval holds zero, not that there is none; every "
        "metric is judged by itself, so of many metrics some differ by chance."
    )
    pairs = [pair for pair in _TOP if comparisons(report, *pair)]
    rows = [
        (titled(report, metric), *(_verdict(report, *pair, metric) for pair in pairs))
        for metric in judged(report)
    ]
    head = ["metric", *(f"{first} against {second}" for first, second in pairs)]
    return alarms + intro + table("Verdicts", head, rows, "words")


_COLOURS = {"better": 2, "worse": 1}
VERDICTS = (("method", "plain"), ("method", "random"), ("method", "dropout"))
_TOP = (
    *VERDICTS,
    ("method", "never ending"),
    ("stopped", "method"),
    ("stopped", "plain"),
    ("relative", "plain"),
    ("strong", "plain"),
)


def _verdict(report: Report, first: str, second: str, metric: str) -> str:
    found = comparisons(report, first, second).get(metric)
    if found is None:
        return DASH
    seeds = len(report.get("seeds") or [])
    missing = (
        f" ({seeds - found['n']} of {seeds} seeds gave no number)" if found["n"] < seeds else ""
    )
    return f"{found['verdict']}{missing}: {estimate(found, _signed)}"


def _signed(value: object) -> str:
    known = finite(value)
    return DASH if known is None else f"{known:+.4f}"


def _checks(report: Report) -> str:
    rows = [
        (check["name"], "yes" if check["passed"] else "NO", check["seen"])
        for check in report.get("checks") or []
    ]
    return table("Seen in the runs", ("check", "passed", "seen"), rows, "words")


def _forest(report: Report) -> str:
    pairs = dict.fromkeys((c["first"], c["second"]) for c in report.get("comparisons") or [])
    return "".join(_pair(report, *pair) for pair in pairs)


def _pair(report: Report, first: str, second: str) -> str:
    found = comparisons(report, first, second)
    rows = [
        Row(
            titled(report, metric),
            _signed(found[metric]["mean"]),  # the interval is drawn: its figures are too wide
            found[metric]["mean"],
            found[metric]["low"],
            found[metric]["high"],
            colour=_COLOURS.get(found[metric]["verdict"], NEUTRAL),
        )
        for metric in judged(report)
        if metric in found
    ]
    title = f"{arm_words(first)}, minus {arm_words(second)}"
    said = "; ".join(f"{name}: {estimate(of, _signed)}" for name, of in found.items())
    note = "Dot: mean difference; whiskers: 95 % interval; triangle: better; square: worse; grey "
    note += "circle: no difference seen, or not known."
    return f"<h3>{text(title)}</h3>" + figure(dots(f"{title}: {said}", rows), note)


def _curves(report: Report) -> str:
    shown_arms = ("inert", "method", "never ending", "stopped", "relative", "strong")
    arms = [arm for arm in shown_arms if part(report, "epochs").get(arm)]
    shown = ""
    for prefix, title in (
        ("C_MIEI_Ratio", "Ratio: share of samples replaced in the steps that measure"),
        ("CI_", "CI: mean influence"),
        ("Hist_", "Hist: share of samples that a modality dominates"),
    ):
        pictures = ""
        for arm in arms:
            epochs = report["epochs"][arm]
            keys = [k for k in (epochs[0] if epochs else {}) if k.startswith(prefix)]
            places = [f"epoch {epoch['epoch']:g}" for epoch in epochs]
            series = [[epoch.get(key) for epoch in epochs] for key in keys]
            ends = ", ".join(f"{k} {number(v[-1])}" for k, v in zip(keys, series, strict=True) if v)
            label = f"{title}, {arm}; in the last epoch {ends}"
            pictures += figure(lines(label, places, series), f"{arm}: {arm_words(arm)}", "plot")
            names = [key.removeprefix(prefix) for key in keys]
        marks = legend(names) if pictures and prefix.endswith("_") else ""
        shown += f"<h3>{text(title)}</h3>{marks}<div class='many'>{pictures}</div>"
    note = paragraph(
        "Means over the seeds of what the hook saw in training. What 'inert' saw is what plain "
        "training does. The controls replace samples by themselves, so their Ratio is 0 here."
    )
    return note + shown if arms else ""


def _sensitivity(report: Report) -> str:
    found = report.get("sensitivity") or []
    arms = list(dict.fromkeys(c["first"] for c in found))
    if len(arms) < 2:
        return ""
    by = {(c["first"], c["metric"]): c for c in found}
    configured = part(report, "metrics").get("method")
    rows = []
    for arm in arms:
        equal = arm != "method" and part(report, "metrics").get(arm) == configured
        name = "as configured" if arm == "method" else f"{arm}{' (changes nothing)' * equal}"
        rows.append((name, *_cells(by, arm, judged(report))))
    return table(
        "Difference from plain training with one setting changed at a time",
        ("setting", *judged(report)),
        rows,
    )


def _cells(
    by: Mapping[tuple[str, str], Mapping[str, Any]], arm: str, metrics: Sequence[str]
) -> Iterable[str]:
    for metric in metrics:
        found = by.get((arm, metric))
        yield DASH if found is None else estimate(found, _signed)


def _figures(report: Report) -> str:
    metrics = part(report, "metrics")
    names = list(dict.fromkeys(name for found in metrics.values() for name in found))
    rows = [(name, *(_mean(found.get(name)) for found in metrics.values())) for name in names]
    runs = [
        (arm, arm_words(arm), f"{finite(about.get('seconds')) or 0:.1f}")
        for arm, about in part(report, "arms").items()
    ]
    return table("Means over the seeds", ("metric", *metrics), rows) + table(
        "The runs", ("name", "what it is", "seconds a run"), runs, "words"
    )


def _mean(values: object) -> str:
    known = [v for v in map(finite, values) if v is not None] if isinstance(values, list) else []
    return number(statistics.fmean(known)) if known else DASH


def _reproduce(report: Report) -> str:
    environment = part(report, "environment")
    command = text(str(environment.get("command") or "").replace("\n", " "))
    rows: list[tuple[str, str]] = [
        ("training function", plain(report.get("train"))),
        ("its arguments", plain(report.get("overrides"))),
        ("settings given", plain(report.get("settings"))),
        ("threads of each run", plain(environment.get("threads"))),
        ("sha256 of the function's file and of its data", plain(environment.get("files"))),
        *((name, plain(v)) for name, v in part(environment, "versions").items()),
        ("git", plain(environment.get("git"))),
    ]
    settings = [(key, plain(value)) for key, value in part(report, "config").items()]
    return (
        (f"<pre><code>{command}</code></pre>" if command else "")
        + table("What was run", ("what", "value"), rows, "words")
        + table("Settings in force", ("key", "value"), settings, "words")
    )
