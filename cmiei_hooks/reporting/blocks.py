"""The pieces that the HTML report is put together from. They escape what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .formatting import estimate, finite, number, part, percent
from .plots import NEUTRAL, Row, dots, marker, text
from .style import STYLE

__all__ = [
    "ROWS",
    "Heat",
    "Report",
    "document",
    "dot_plot",
    "figure",
    "legend",
    "names_of",
    "paragraph",
    "table",
]

Report = Mapping[str, Any]

ROWS = 15
"""How many rows of a long list are shown."""


def document(title: str, top: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page, with a table of contents; ``top`` and the bodies are HTML already."""
    links = "".join(f'<li><a href="#s{i}">{text(t)}</a></li>' for i, (t, _) in enumerate(sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{text(title)}</h1>\n{top}\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'
        + "\n".join(
            f'<section aria-labelledby="s{i}">\n<h2 id="s{i}">{text(heading)}</h2>\n{body}\n'
            "</section>"
            for i, (heading, body) in enumerate(sections)
        )
        + "\n</main>\n</body>\n</html>\n"
    )


def legend(names: Sequence[str]) -> str:
    """The marks of the modalities in a plot of lines."""
    items = (
        f'<li><svg width="16" height="16" aria-hidden="true">{marker("8", 8, i)}</svg> '
        f"{text(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def paragraph(line: str) -> str:
    """A paragraph, or nothing."""
    return f"<p>{text(line)}</p>" if line else ""


def table(
    caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], kind: str = ""
) -> str:
    """Every cell is escaped; on a narrow screen the table scrolls, and the page does not."""
    columns = "".join(_cell(cell, "th", ' scope="col"') for cell in head)
    body = "".join(
        "<tr>" + _cell(first, "th", ' scope="row"') + "".join(map(_cell, rest)) + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<p class="muted caption">{text(caption)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f'<table class="{kind}">'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(content: object, tag: str = "td", attributes: str = "") -> str:
    if isinstance(content, Heat):
        return content.markup
    # Only words that no column can hold are broken anywhere.
    broken = max(map(len, str(content).split()), default=0) > 28
    attributes += ' class="long"' if broken else ""
    return f"<{tag}{attributes}>{text(content)}</{tag}>"


class Heat:
    """A cell with a share, shaded by it, and words under it."""

    def __init__(self, share: object, words: str = "") -> None:
        note = f"<small>{text(words)}</small>" if words else ""
        mark = " marked" if words else ""
        shade = min(max(finite(share) or 0.0, 0.0), 1.0)
        self.markup = (
            f'<td class="heat{mark}" style="--v:{shade:.3f}">{text(percent(share))}{note}</td>'
        )


def figure(picture: str, caption: str = "", kind: str = "") -> str:
    """A plot and what to read in it."""
    words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{picture}{words}</figure>'


def names_of(report: Report) -> list[str]:
    """The modalities in the order of the input."""
    return list(report.get("names") or [])


def dot_plot(
    label: str,
    names: Sequence[str],
    figures: Report,
    show: Callable[[object], str] = number,
    compare: Callable[[str], Report] = lambda name: {},
    bounds: tuple[float, float] | None = None,
    colours: bool = True,
) -> str:
    """A dot plot whose label says all figures; ``compare`` gives the band behind each."""
    rows = []
    for i, name in enumerate(names):
        found, behind = part(figures, name), compare(name)
        mean, low, high = (found.get(key) for key in ("mean", "low", "high"))
        band = (behind.get("low"), behind.get("high"))
        rows.append(
            Row(name, estimate(found, show), mean, low, high, band, i if colours else NEUTRAL)
        )
    said = "; ".join(f"{row.name} {row.text}" for row in rows)
    ticks = "{:.0%}".format if bounds else "{:g}".format
    return dots(f"{label}: {said}", rows, ticks, bounds)
