"""The sections around the figures: thresholds, groups, epochs, checkpoint, how to get it again."""

from __future__ import annotations

from .blocks import ROWS, Heat, Report, figure, legend, names_of, paragraph, table
from .formatting import (
    clean,
    configured,
    count,
    finite,
    grid,
    number,
    part,
    percent,
    plain,
    provenance,
    settings,
)
from .plots import lines, text

__all__ = ["checkpoint", "reproduce", "strata", "trend", "what_if"]


def what_if(report: Report) -> str:
    """The trigger rate for other thresholds, as a heat map, and what the cap does."""
    cells, names = report.get("what_if") or [], names_of(report)
    if not cells:
        return ""
    tried, chosen = grid(report)
    wanted, advice = configured(report), part(report, "suggestion")
    at = {tuple(float(c[key]) for key in ("ABS_THR", "REL_THR", "P_MAX")): c for c in cells}
    cap = chosen["P_MAX"]

    def heat(abs_thr: float, rel_thr: float) -> Heat:
        marks = [
            words
            for words, place in (("configured", wanted), ("suggested", advice))
            if (place.get("ABS_THR"), place.get("REL_THR")) == (abs_thr, rel_thr)
        ]
        return Heat((at.get((abs_thr, rel_thr, cap)) or {}).get("triggered"), ", ".join(marks))

    rows = [[f"{a:g}", *(heat(a, r) for r in tried["REL_THR"])] for a in tried["ABS_THR"]]
    body = paragraph(
        "A sample is triggered when its dominant influence is above ABS_THR and more than REL_THR "
        "times the second. The most strongly triggered ones, at most the share P_MAX of a batch, "
        "are substituted in training: their dominant modality is replaced, so that the head must "
        "use the others."
    ) + table(
        f"Share of samples triggered, at P_MAX {cap:g}. Down: ABS_THR; across: REL_THR",
        ("ABS_THR", *(f"REL_THR {r:g}" for r in tried["REL_THR"])),
        rows,
    )
    if advice:
        body += paragraph(f"Suggested: {settings(advice)}. {advice.get('reason') or ''}")
    a, r = chosen["ABS_THR"], chosen["REL_THR"]
    capped = [c for p in tried["P_MAX"] if (c := at.get((a, r, p)))]
    return body + table(
        f"How the cap changes it, at ABS_THR {a:g} and REL_THR {r:g}. The last columns: how the "
        "triggered samples divide among the modalities",
        ("P_MAX", "triggered", "substituted", *names),
        [
            [f"{c['P_MAX']:g}", percent(c.get("triggered")), percent(c.get("substituted"))]
            + [percent(part(c, "shares").get(n)) for n in names]
            for c in capped
        ],
    )


def strata(report: Report) -> str:
    """The figures of classes, cameras and the like."""
    names, body = names_of(report), ""
    for kind, groups in part(report, "strata").items():
        rows = [
            [plain(g.get("value")), count(g.get("n")), number(g.get("inequality"))]
            + [number(part(g, "influence").get(n)) for n in names]
            + [Heat(part(g, "dominance").get(n)) for n in names]
            for g in (groups or [])[:ROWS]
        ]
        head = [kind, "samples", "inequality", *(f"{n} influence" for n in names)]
        head += [f"{n} dominant" for n in names]
        if rows:
            body += f"<h3>By {text(kind)}</h3>" + table(f"{kind}, most unequal first", head, rows)
            if len(groups) > ROWS:
                body += paragraph(f"And {len(groups) - ROWS:,} more, in report.json.")
    lead = (
        "Where the modalities are most unequal. Inequality 0: all have the same influence; larger: "
        "fewer have it. Groups of few samples vary by chance."
    )
    return body and paragraph(lead) + body


def trend(report: Report) -> str:
    """Several checkpoints of one run."""
    steps, names = report.get("trend") or [], names_of(report)
    if not steps:
        return ""
    places = [clean(step.get("checkpoint")) for step in steps]
    series = [[part(step, "influence").get(n) for step in steps] for n in names]
    accuracy = [step.get("accuracy") for step in steps]
    said = "; ".join(f"{n} {', '.join(map(number, v))}" for n, v in zip(names, series, strict=True))
    body = f"<h3>Mean influence</h3>{legend(names)}" + figure(
        lines(f"Mean influence of {len(places)} checkpoints: {said}", places, series),
        kind="plot",
    )
    labelled = any(finite(value) is not None for value in accuracy)
    if labelled:
        said = ", ".join(percent(value, 2) for value in accuracy)
        body += "<h3>Accuracy</h3>" + figure(
            lines(
                f"Accuracy of {len(places)} checkpoints: {said}",
                places,
                [accuracy],
                lambda value: f"{100 * value:.4g}%",
                of_modalities=False,
            ),
            kind="plot",
        )
    rows = [
        [place, *(number(part(step, "influence").get(n)) for n in names)]
        + [percent(part(step, "dominance").get(n)) for n in names]
        + ([percent(value, 2)] if labelled else [])
        for place, step, value in zip(places, steps, accuracy, strict=True)
    ]
    head = ["checkpoint", *(f"{n} influence" for n in names), *(f"{n} dominant" for n in names)]
    return body + table("Every checkpoint", head + ["accuracy"] * labelled, rows)


def checkpoint(report: Report) -> str:
    """What was loaded, and what was not."""
    found = part(report, "checkpoint")
    rows = [(key, plain(found[key])) for key in ("path", "sha256", "loaded") if key in found]
    for key in ("missing", "unexpected", "mismatched"):
        names = [clean(name) for name in found.get(key) or []]
        more = f", and {len(names) - ROWS:,} more" if len(names) > ROWS else ""
        rows.append((key, f"{len(names):,}: {', '.join(names[:ROWS])}{more}" if names else "none"))
    return (
        table("What the checkpoint gave to the model", ("what", "value"), rows, "words")
        if found
        else ""
    )


def reproduce(report: Report) -> str:
    """The command and everything else that the figures depend on."""
    environment = part(report, "environment")
    if not environment:
        return ""
    command = text(str(environment.get("command") or "").replace("\n", " "))
    settings = [(key, plain(value)) for key, value in part(environment, "config").items()]
    return (
        (f"<pre><code>{command}</code></pre>" if command else "")
        + table("Where it ran", ("what", "value"), provenance(report), "words")
        + (table("Configuration", ("key", "value"), settings, "words") if settings else "")
    )
