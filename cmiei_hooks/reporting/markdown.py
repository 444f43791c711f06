"""A report as GitHub-flavoured Markdown, short enough for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .formatting import visible
from .sections import Cell, Code, Report, Section, Table

__all__ = ["to_markdown"]

_ROWS = 5
"""How many rows of a long table are shown."""

# Brackets and underscores only where they mean something: values stay legible unrendered.
_MARKUP = re.compile(r"[\\`*#|~$]|\](?=[(\[:])|\[(?=\^)|!(?=\[)|_(?![A-Za-z0-9])")


def to_markdown(report: Report) -> str:
    """The report as Markdown. Every text is escaped, so that it is shown as it is."""
    blocks = [f"## {_text(report.title)}"]
    blocks += [_text(report.subtitle)] if report.subtitle else []
    blocks += [f"> **{_text(line)}**" for line in report.warnings]
    blocks += [f"**{_text(report.conclusion)}**"] if report.conclusion else []
    blocks += [f"Caveat: {_text(line)}" for line in report.caveats]
    blocks += [_text(report.note)] if report.note else []
    for section in report.shown_in("markdown"):
        blocks += _section(section, 3)
    return "\n\n".join(blocks) + "\n"


def _text(content: str) -> str:
    """No markup, no border of a table, nobody mentioned, no link."""
    line = _MARKUP.sub(r"\\\g<0>", visible(content).strip())
    line = re.sub(r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("@", "@\N{ZERO WIDTH SPACE}").replace("://", ":&#8203;//")


def _section(section: Section, level: int) -> Iterator[str]:
    title = _text(section.title)
    yield f"<details><summary>{title}</summary>" if section.folded else f"{'#' * level} {title}"
    for part in section.parts:
        if isinstance(part, Section):
            yield from _section(part, level + 1)
        elif isinstance(part, Table):
            yield from _table(part)
        elif isinstance(part, Code):
            yield _code(part)
        elif isinstance(part, str):
            yield _text(part)
    if section.folded:
        yield "</details>"


def _table(table: Table) -> Iterator[str]:
    rows, more = table.cut(_ROWS)
    align = ["---", *["---" if table.prose else "---:"] * (len(table.head) - 1)]
    yield _text(f"{table.caption}. {table.note}" if table.note else table.caption)
    yield "\n".join([_row(table.head), f"| {' | '.join(align)} |", *map(_row, rows)])
    if more:
        yield _text(more)


def _row(cells: Sequence[str | Cell]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _text(cell)
    return _text(f"{cell.text} ({cell.note})" if cell.note else cell.text)


def _code(code: Code) -> str:
    line = visible(code.text)
    # A fence is longer than every run of its own character inside.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}sh\n{line}\n{fence}"
