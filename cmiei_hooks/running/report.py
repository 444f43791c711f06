"""The report of a run: the metrics over the steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..logs import LogRecord
from ..reporting import (
    Card,
    Code,
    LinePlot,
    Report,
    Section,
    Table,
    count,
    finite,
    git_state,
    number,
    percent,
    setting,
    sha256,
    to_html,
    to_json,
    to_markdown,
    versions,
    write_files,
)
from ..settings import Config, without_effect
from ..units import UNITS
from .program import Program

__all__ = ["RunReport"]

_SCHEMA_VERSION = 1
_MOST_POINTS = 60
"""More than this many points of a curve are averaged to this many."""


@dataclass(frozen=True)
class RunReport:
    """What one run of a program has measured."""

    records: Sequence[LogRecord] = field(repr=False)
    """All that was logged, from ``start`` to ``end``."""
    program: Program
    exit_code: int | None
    act: bool
    """Whether samples could be substituted."""
    command: str

    def save(self, directory: Path) -> Path:
        """Write ``report.json``, ``report.md`` and ``report.html``.

        Returns:
            The path of ``report.html``.

        Raises:
            CMIEIError: the directory cannot be written into.
        """
        content = self.to_dict()
        shown = in_sections(content)
        files = {
            "report.json": to_json(content),
            "report.md": to_markdown(shown),
            "report.html": to_html(shown),
        }
        write_files(directory, files)
        return directory / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        start, end = self.records[0], self.records[-1]
        file = self.program.path
        return {
            "schema_version": _SCHEMA_VERSION,
            "program": self.program.name,
            "exit_code": self.exit_code,
            "act": self.act,
            "head": start.head,
            "names": start.names,
            "splits": start.splits,
            "unit": UNITS[start.config.measure],
            "totals": end.totals,
            "reason": end.reason,
            "curve": _curve(self.records),
            "settings": start.config.to_dict(),
            "environment": {
                "command": self.command,
                "sha256": None if file is None or not file.exists() else sha256(file),
                "git": git_state(),
                "versions": versions(),
            },
        }


def _curve(records: Sequence[LogRecord]) -> list[dict[str, Any]]:
    """The metrics over the steps, by whole epochs if there are several."""
    epochs = [record for record in records if record.event == "epoch"]
    points = epochs if len(epochs) > 1 else [r for r in records if r.event in ("figures", "end")]
    size = math.ceil(len(points) / _MOST_POINTS) or 1
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        {"step": chunk[-1].step, "epoch": chunk[-1].epoch, **_means(chunk)}
        for chunk in chunks
        if chunk[-1].metrics
    ]


def _means(records: Sequence[LogRecord]) -> dict[str, float | None]:
    known = {
        name: [value for r in records if (value := finite(r.metrics.get(name))) is not None]
        for name in records[-1].metrics
    }
    return {name: statistics.fmean(values) if values else None for name, values in known.items()}


def in_sections(run: dict[str, Any]) -> Report:
    """The report as a reader sees it.

    Args:
        run: the content of report.json.
    """
    names, curve, unit = run["names"], run["curve"], run["unit"]
    influence = f"Mean influence ({unit})"
    first, last = (curve[0], curve[-1]) if curve else ({}, {})
    rows = [
        (
            name,
            *(number(point.get(f"CI_{name}")) for point in (first, last)),
            *(percent(point.get(f"Hist_{name}")) for point in (first, last)),
        )
        for name in names
    ]
    head = ("modality", "CI at first", "CI at last", "Hist at first", "Hist at last")
    sections = [
        Section(
            "Influence",
            [Table("First and last average", head, rows), _lines(curve, influence, "CI_", names)],
            "How far the prediction of the head is from the one without the modality.",
        ),
        Section(
            "Dominance",
            [_lines(curve, "Share of the samples that each modality dominates", "Hist_", names)],
        ),
        Section(
            "Substitution",
            [
                _ratio(curve, run["act"]),
                run["reason"] and f"Nothing was substituted: {run['reason']}.",
            ],
        ),
        Section("How to reproduce this report", _provenance(run), folded=True),
    ]
    totals = run["totals"]
    cards = [Card(name, count(totals[name])) for name in totals]
    return Report(
        f"The training of {run['program']}",
        sections if curve else sections[-1:],
        conclusion=_conclusion(run, last),
        warnings=_warnings(run),
        cards=cards,
        note=f"Head {run['head']}. Each point is an average over the estimates since the point "
        "before it. A step is a training call of the head.",
    )


def _lines(
    curve: Sequence[dict[str, Any]], label: str, prefix: str, names: Sequence[str]
) -> LinePlot:
    series = {name: [point[prefix + name] for point in curve] for name in names}
    return LinePlot(label, _places(curve), series, share=prefix == "Hist_")


def _ratio(curve: Sequence[dict[str, Any]], act: bool) -> LinePlot:
    label = "Ratio: share of the samples substituted in the estimation steps"
    series = {"Ratio": [point["C_MIEI_Ratio"] for point in curve]}
    caption = "" if act else "This run only observed: nothing is substituted without --act."
    return LinePlot(label, _places(curve), series, caption, share=True, modalities=False)


def _places(curve: Sequence[dict[str, Any]]) -> list[str]:
    return [f"step {point['step']:,}" for point in curve] or ["no step"]


def _conclusion(run: dict[str, Any], last: dict[str, Any]) -> str:
    influence = {name: finite(last.get(f"CI_{name}")) for name in run["names"]}
    known = {name: value for name, value in influence.items() if value is not None}
    if not known:
        return "No estimate has finite logits: there is nothing to report."
    largest, *others = sorted(known, key=lambda name: -known[name])
    share = percent(last.get(f"Hist_{largest}"), 0)
    times = ""
    if others and known[others[0]] > 0:
        times = f", {known[largest] / known[others[0]]:.3g} times that of {others[0]}"
    said = (
        f"At the end {largest} had the largest mean influence, {number(known[largest])} "
        f"{run['unit']}{times}, and dominated {share} of the samples."
    )
    totals = run["totals"]
    if run["act"] and totals:
        said += f" {count(totals['substituted'])} of {count(totals['samples'])} measured samples "
        said += "were substituted."
    return said


def _warnings(run: dict[str, Any]) -> list[str]:
    code = run["exit_code"]
    if code == 0:
        return []
    how = "was interrupted" if code is None else f"ended with exit code {code}"
    return [f"The program {how}: these are the steps before."]


def _provenance(run: dict[str, Any]) -> list[Any]:
    environment = run["environment"]
    facts = {
        "head": run["head"],
        "exit code": run["exit_code"],
        "sha256 of the script": environment["sha256"],
        **environment["versions"],
        "git": environment["git"],
    }
    settings = run["settings"]
    idle = {name.upper() for name in without_effect(Config.load(settings))}
    used = {key: value for key, value in settings.items() if key not in idle}
    parts: list[Any] = [Code(environment["command"])]
    for caption, values in (("What was run", facts), ("Settings in force", used)):
        rows = [(key, setting(value)) for key, value in values.items()]
        parts.append(Table(caption, ("what", "value"), rows, prose=True))
    return parts
