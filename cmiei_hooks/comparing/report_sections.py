"""The sections of a comparison's report, made once for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..reporting import (
    NEUTRAL,
    Cell,
    Code,
    Dot,
    DotPlot,
    Grid,
    MarkPlot,
    Part,
    Report,
    Section,
    Table,
    count,
    counted,
    day,
    estimate,
    finite,
    number,
    percent,
    setting,
)
from ..units import UNITS
from .conclusion import cards, conclusion, signed_points
from .results import Comparison, Line, Results

__all__ = ["in_sections"]

_TONES = {"better": "good", "worse": "bad"}
_COLOURS = {"better": 2, "worse": 1, "higher": 3, "lower": 0}
"""Colours of the plots; each has a shape of its own, too."""
_LONGEST = 18
"""Two names that are longer together are no headers of columns."""
_ACCURACIES = ("accuracy", "accuracy_without", "accuracy_alone")


def in_sections(report: Results) -> Report:
    """The report as a reader sees it. Values that were not measured are left out."""
    several = len(report.comparisons) > 1
    made = [_beside(report)]
    for one in report.comparisons:
        found = _sections(report, one)
        made += [Section(f"{one.name}, compared with {report.reference}", found)] * several
        made += [] if several else found
    made.append(_provenance(report))
    what = f"{len(report.comparisons)} runs" if several else report.comparisons[0].name
    return Report(
        f"{what}, compared with {report.reference}",
        [section for section in made if section.parts],
        conclusion=" ".join(conclusion(report)),
        subtitle=_facts(report),
        warnings=report.notes,
        cards=() if several else cards(report),
        note=_note(report),
    )


def _facts(report: Results) -> str:
    date = report.environment.get("date")
    facts = [day(date)] if date else []
    facts += [counted(report.n_samples, "sample"), f"modalities {', '.join(report.names)}"]
    return " \N{MIDDLE DOT} ".join(facts)


def _note(report: Results) -> str:
    lines = sum(len(one.lines) for one in report.comparisons)
    units = report.comparisons[0].lines[0].difference.n
    if report.over == "runs":
        how = (
            "Runs are compared pair by pair, in their order, over "
            f"{counted(report.n_samples, 'sample')}. In brackets: the 95% interval of the mean "
            f"difference (Student's t over {count(units)} pairs of runs), which says what other "
            "trainings would show."
        )
    else:
        over = counted(units, {"identities": "identity"}.get(report.over, "sample"))
        if report.over != "samples":
            over += f" with {count(report.n_samples)} samples"
        how = (
            "Runs are compared sample by sample. In brackets: the 95% interval of the difference "
            f"(BCa bootstrap over {over}). It says what other samples of the same kind would show, "
            "not what other trainings would."
        )
    unknown = (
        " 'Not known' means that there is no interval: there is only one of what is compared, all "
        "differ by the same, or a value is missing."
        if any(line.unknown for one in report.comparisons for line in one.lines)
        else ""
    )
    left_out = (
        f" {counted(report.left_out, 'sample')} {'was' if report.left_out == 1 else 'were'} left "
        "out because of logits that were NaN or infinite."
        if report.left_out
        else ""
    )
    return (
        f"{how} 'No difference seen' means that the interval contains zero, not that there is no "
        f"difference. 'Perhaps by chance': the interval excludes zero, but of {count(lines)} lines "
        f"some do so by chance; after Holm's correction no difference is left.{unknown}{left_out}"
    )


def _beside(report: Results) -> Section:
    """Accuracy of all runs beside each other."""
    lines = [one.of("accuracy") + one.of("accuracy_without") for one in report.comparisons]
    if not lines[0]:
        return Section("Accuracy at a glance", [])
    rows = {
        _row(same[0]): [same[0].reference, *(line.value for line in same)]
        for same in zip(*lines, strict=True)
    }
    series = [report.reference, *(one.name for one in report.comparisons)]
    return Section("Accuracy at a glance", [Grid([MarkPlot("Accuracy", series, rows, share=True)])])


def _sections(report: Results, one: Comparison) -> list[Section]:
    unit = UNITS[report.measure]
    accuracy = [line for metric in _ACCURACIES for line in one.of(metric)]
    kinds = (
        (
            "Accuracy",
            "Accuracy with all modalities, without each, and with each alone",
            accuracy,
            True,
            "How often the prediction is right, when modalities are dropped at the head.",
        ),
        (
            "Dominant modality",
            "Share of the samples that each modality dominates",
            one.of("dominance"),
            True,
            "The dominant modality of a sample is the one whose loss changes the prediction most.",
        ),
        (
            "Influence",
            f"Mean influence ({unit})",
            one.of("influence"),
            False,
            f"How far the prediction moves ({report.measure}, in {unit}) when the modality is "
            f"dropped (baseline: {report.drop}).",
        ),
        (
            "Shapley values",
            f"Shapley value ({unit})",
            one.of("shapley"),
            False,
            "What a modality adds to the prediction, on average over all combinations of the "
            "others. Unlike the influence, it also shows modalities that say the same.",
        ),
    )
    made = [
        Section(title, _parts(report.reference, one.name, caption, lines, share), lead)
        for title, caption, lines, share, lead in kinds
    ]
    return [section for section in made if section.parts]


def _parts(
    reference: str, name: str, caption: str, lines: Sequence[Line], share: bool
) -> list[Part]:
    """The differences as a plot, and all values as a table."""
    if not lines:
        return []
    show, unit = (signed_points, " in points") if share else (_signed, "")
    dots = [_dot(line, show, 100.0 if share else 1.0) for line in lines]
    plot = DotPlot(
        f"Difference{unit}",
        dots,
        f"{name} minus {reference}{unit}. Dot: the difference. Whiskers: 95% interval. Grey: no "
        "difference seen.",
    )
    value = percent if share else number
    rows: list[list[str | Cell]] = [
        [_row(line), value(line.reference), value(line.value), _difference(line, show), _said(line)]
        for line in lines
    ]
    short = len(reference) + len(name) <= _LONGEST
    named = [reference, name] if short else ["reference", "compared"]
    rows_are = "accuracy" if lines[0].metric in _ACCURACIES else "modality"
    head = [rows_are, *named, f"difference{unit}", "verdict"]
    return [plot, Table(caption, head, rows)]


def _row(line: Line) -> str:
    """What a row is called."""
    words = {
        "accuracy_without": f"without {line.modality}",
        "accuracy_alone": f"{line.modality} alone",
    }
    return words.get(line.metric, line.modality or "all modalities")


def _signed(value: object) -> str:
    text = number(value)
    return f"+{text}" if (finite(value) or 0.0) > 0 and text.strip("0.") else text


def _difference(line: Line, show: Callable[[object], str]) -> str:
    found = line.difference
    return estimate(found.mean, found.low, found.high, show)


def _said(line: Line) -> Cell:
    note = "perhaps by chance" if line.seen and not line.certain else ""
    tone = _TONES.get(line.verdict, "")
    return Cell(line.verdict, note, tone=tone)  # type: ignore[arg-type]  # one of the tones


def _dot(line: Line, show: Callable[[object], str], scale: float) -> Dot:
    found = line.difference
    low, mean, high = (value * scale for value in (found.low, found.mean, found.high))
    colour = _COLOURS.get(line.verdict, NEUTRAL)
    return Dot(_row(line), _difference(line, show), mean, low, high, colour=colour)


def _provenance(report: Results) -> Section:
    found = dict(report.environment)
    command = str(found.pop("command", ""))
    git, versions = found.pop("git", None), found.pop("versions", {})
    if git:
        dirty = ", with uncommitted changes" if git["dirty"] else ""
        found["git"] = f"{git['commit']} on {git['branch']}{dirty}"
    facts = {
        **{f"{name}": ", ".join(paths) for name, paths in report.runs.items()},
        "baseline": report.drop,
        "measure": report.measure,
        **versions,
        **found,
    }
    rows = [(str(key), setting(value)) for key, value in facts.items() if value != ""]
    parts: list[Part] = [Code(command)] if command else []
    parts.append(
        Table("What was compared", ("what", "value"), rows, prose=True, media=("markdown", "html"))
    )
    return Section("How to reproduce this report", parts, folded=True)
