"""The report as GitHub-flavoured Markdown, short enough for a pull request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .formatting import (
    clean,
    configured,
    count,
    estimate,
    grid,
    intervals,
    number,
    p_value,
    part,
    percent,
    plain,
    provenance,
    settings,
    summary,
    warnings,
)

__all__ = ["to_markdown"]

Report = Mapping[str, Any]

_ROWS = 5
"""How many groups of samples are shown."""

# Brackets and underscores only where they mean something: figures stay legible unrendered.
_MARKUP = r"[\\`*#|~$]|\](?=[(\[:])|\[(?=\^)|!(?=\[)|_(?![A-Za-z0-9])"


def to_markdown(report: Report) -> str:
    """The report as Markdown.

    Args:
        report: the content of report.json. Null figures are shown as a dash, parts that are missing
            are left out, and every text is escaped.
    """
    blocks = [
        f"## Modality influence at {_text(report.get('head', 'the head'))}",
        *(f"> **{_text(line)}**" for line in warnings(report)),
        _text(" ".join(summary(report))),
        _text(intervals(report)),
        _modalities(report),
        _interactions(report),
        _baselines(report),
        _what_if(report),
        *_strata(report),
        _trend(report),
        _reproduce(report),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _text(value: object) -> str:
    """Escaped, so that it is shown as it is: no markup, no cell of a table, nobody is mentioned."""
    line = re.sub(_MARKUP, r"\\\g<0>", clean(value).strip())
    line = re.sub(r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("@", "@\N{ZERO WIDTH SPACE}").replace("://", ":&#8203;//")


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(str(c) if i == 1 else _text(c) for c in line) + " |"
        for i, line in enumerate(lines)
    )


def _modalities(report: Report) -> str:
    """One row for each modality with everything that is known of it."""

    def points(value: object) -> str:
        return percent(value, 2)

    columns: list[tuple[str, str, Callable[[object], str]]] = [
        (f"influence ({report.get('unit', '')})", "influence", number),
        ("by chance", "null", number),
        ("dominant", "dominance", percent),
        ("Shapley value", "shapley", number),
        ("Shapley, accuracy", "shapley_accuracy", points),
        ("accuracy without", "accuracy_without", points),
        ("accuracy alone", "accuracy_alone", points),
    ]
    columns = [column for column in columns if part(report, column[1])]
    head, rows = ["modality", *(title for title, _, _ in columns)], []
    for name in report.get("names") or []:
        figures = [estimate(part(report, key, name), show) for _, key, show in columns]
        if chance := part(report, "null", name):
            where = [key for _, key, _ in columns].index("null")
            figures[where] += f", p {p_value(chance.get('p'))}"
        rows.append([name, *figures])
    totals = {"influence": "", "dominance": "", **{key: "" for _, key, _ in columns}}
    totals["shapley"] = estimate(part(report, "shapley_total"))
    for key in ("accuracy_without", "accuracy_alone"):
        totals[key] = estimate(part(report, "accuracy"), points)
    rows.append(["all", *(totals[key] for _, key, _ in columns)])
    return _table(head, rows if any(rows[-1][1:]) else rows[:-1])


def _interactions(report: Report) -> str:
    found = report.get("interactions") or []
    accuracy = {tuple(f["pair"]): f for f in report.get("interactions_accuracy") or []}
    rows = [
        [" with ".join(map(clean, f["pair"])), estimate(f)]
        + ([estimate(accuracy.get(tuple(f["pair"])), lambda v: percent(v, 2))] if accuracy else [])
        for f in found
    ]
    head = ["interaction", str(report.get("unit", "")), "accuracy"][: 2 + bool(accuracy)]
    return _table(head, rows) if rows else ""


def _baselines(report: Report) -> str:
    names, found = list(report.get("names") or []), part(report, "baselines")
    if not found:
        return ""
    rows = [[kind, *(estimate(part(f, n)) for n in names)] for kind, f in found.items()]
    agreed = [
        f"{' and '.join(map(clean, entry['pair']))} agree on the dominant modality for "
        f"{estimate(entry.get('same_dominant'), percent)} of the samples "
        f"(rank correlation {number(entry.get('rank_correlation'))})"
        for entry in report.get("agreement") or []
    ]
    return _table(["stand-in", *names], rows) + "".join(f"\n\n{_text(line)}." for line in agreed)


def _what_if(report: Report) -> str:
    cells = report.get("what_if") or []
    if not cells:
        return ""
    tried, chosen = grid(report)
    at = {tuple(float(c[key]) for key in ("ABS_THR", "REL_THR", "P_MAX")): c for c in cells}
    rows = [
        [f"ABS_THR {a:g}"]
        + [
            percent((at.get((a, r, chosen["P_MAX"])) or {}).get("triggered"))
            for r in tried["REL_THR"]
        ]
        for a in tried["ABS_THR"]
    ]
    head = ["triggered", *(f"REL_THR {r:g}" for r in tried["REL_THR"])]
    both = (("Configured", configured(report)), ("Suggested", part(report, "suggestion")))
    lines = [f"{w}: {settings(p)}. {p.get('reason') or ''}".strip() for w, p in both if p]
    return _table(head, rows) + "".join(f"\n\n{_text(line)}" for line in lines)


def _strata(report: Report) -> list[str]:
    names, blocks = list(report.get("names") or []), []
    for kind, groups in part(report, "strata").items():
        rows = [
            [plain(g.get("value")), count(g.get("n")), number(g.get("inequality"))]
            + [
                f"{number(part(g, 'influence').get(n))} ({percent(part(g, 'dominance').get(n))})"
                for n in names
            ]
            for g in (groups or [])[:_ROWS]
        ]
        if rows:
            blocks.append(
                _table([f"{kind}, most unequal first", "samples", "inequality", *names], rows)
            )
        if len(groups or []) > _ROWS:
            blocks.append(f"And {len(groups) - _ROWS:,} more, in report.json.")
    return blocks


def _trend(report: Report) -> str:
    names = list(report.get("names") or [])
    rows = [
        [clean(step.get("checkpoint"))]
        + [
            f"{number(part(step, 'influence').get(n))} ({percent(part(step, 'dominance').get(n))})"
            for n in names
        ]
        + [percent(step.get("accuracy"), 2)]
        for step in report.get("trend") or []
    ]
    return _table(["influence (dominant) at", *names, "accuracy"], rows) if rows else ""


def _reproduce(report: Report) -> str:
    """Folded, for the one reader who needs it."""
    environment, found = part(report, "environment"), part(report, "checkpoint")
    if not (environment or found):
        return ""
    inner = []
    if command := environment.get("command"):
        line = clean(command)
        # A fence is longer than every run of its own character inside.
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
        inner.append(f"{fence}sh\n{line}\n{fence}")
    facts = [(key, plain(found[key])) for key in ("path", "sha256", "loaded") if key in found]
    facts += [
        (key, f"{len(found[key]):,}")
        for key in ("missing", "unexpected", "mismatched")
        if found.get(key)
    ]
    facts += provenance(report)
    facts += [(k, plain(v)) for k, v in part(environment, "config").items()]
    inner.append(_text(", ".join(f"{key} {value}" for key, value in facts)))
    body = "\n\n".join(block for block in inner if block)
    return f"<details><summary>How to get these figures again</summary>\n\n{body}\n\n</details>"
