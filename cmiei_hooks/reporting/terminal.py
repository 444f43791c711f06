"""A report in the terminal. Names are never taken for markup."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from .formatting import visible
from .sections import Cell, Report, Section, Table

__all__ = ["to_terminal"]

_ROWS = 5
"""How many rows of a long table are shown."""

_STYLES = {"": "", "good": "green", "bad": "bold red"}


def to_terminal(report: Report) -> RenderableType:
    """The report as something that rich prints; tables of three modalities fit into 80 columns."""
    top = [_text(report.title, "bold")]
    top += [_text(report.subtitle)] if report.subtitle else []
    top += [_text(line, "bold red") for line in report.warnings]
    top += [_text(report.conclusion)] if report.conclusion else []
    top += [_text(f"Caveat: {line}", "italic") for line in report.caveats]
    top += [_text(report.note)] if report.note else []
    sections = (part for section in report.shown_in("terminal") for part in _section(section))
    return Group(*top, *sections)


def _text(content: str, style: str = "") -> Text:
    return Text(visible(content), style)


def _section(section: Section) -> Iterator[RenderableType]:
    """The title, then each table below it, where a reader who scrolls looks for it."""
    yield Text()
    yield _text(section.title, "bold")
    for part in section.parts:
        if isinstance(part, Section):
            yield from _section(part)
        elif isinstance(part, Table):
            yield from _table(part)
        elif isinstance(part, str):
            yield _text(part)


def _table(table: Table) -> Iterator[RenderableType]:
    drawn = RichTable(box=ROUNDED)
    for i, header in enumerate(table.head):
        left = table.prose or i == 0
        drawn.add_column(_text(header), justify="left" if left else "right", overflow="fold")
    rows, more = table.cut(_ROWS)
    for row in rows:
        drawn.add_row(*map(_cell, row))
    yield _text(f"{table.caption}. {table.note}" if table.note else table.caption, "italic")
    yield drawn
    if more:
        yield _text(more)


def _cell(cell: str | Cell) -> Text:
    if isinstance(cell, str):
        return _text(cell)
    text = _text(cell.text, _STYLES[cell.tone])
    return text.append(visible(f" ({cell.note})")) if cell.note else text
