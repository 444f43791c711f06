"""What a report is made of: sections of text, tables and plots.

Plain data, and already text where a reader sees text. A report is made once, and the terminal, the
Markdown and the HTML file are made of it, so they cannot show different values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .formatting import count

__all__ = [
    "ALL",
    "NEUTRAL",
    "WRITTEN",
    "Card",
    "Cell",
    "Code",
    "Dot",
    "DotPlot",
    "Grid",
    "Histogram",
    "LinePlot",
    "MarkPlot",
    "Medium",
    "Part",
    "Plot",
    "Report",
    "Section",
    "Table",
]

Medium: TypeAlias = Literal["terminal", "markdown", "html"]

ALL: tuple[Medium, ...] = ("terminal", "markdown", "html")
WRITTEN: tuple[Medium, ...] = ("markdown", "html")
"""The media of tables that the terminal has no room for."""

NEUTRAL = -1
"""The colour of what does not belong to one modality."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: str
    note: str = ""
    """A word or two on why this cell stands out."""
    shade: float | None = None
    """From 0 to 1: how deeply a cell of a heat map is shaded."""
    tone: Literal["", "good", "bad"] = ""


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    prose: bool = False
    """Whether the cells hold words, which are aligned to the left, rather than numbers."""
    long: bool = False
    """Whether a medium may show the first rows only, and say how many more there are."""
    media: Sequence[Medium] = ALL
    """Where the table is shown."""
    folded: bool = False
    """Whether HTML shows only the caption at first, since a plot beside it has the same values."""
    note: str = ""
    """What the columns are, where their names cannot say it."""

    def cut(self, most: int) -> tuple[Sequence[Sequence[str | Cell]], str]:
        """The rows to show, and a sentence on those left out of a long table."""
        left_out = len(self.rows) - most if self.long else 0
        if left_out <= 0:
            return self.rows, ""
        return self.rows[:most], f"{count(left_out)} more in report.json."


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    text: str


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot: a mean with its interval. None and NaN are values not known."""

    name: str
    text: str
    """The value as it is written beside the name."""
    mean: float | None
    low: float | None = None
    high: float | None = None
    band: tuple[float | None, float | None] = (None, None)
    """A range to compare with, drawn behind the dot."""
    colour: int = NEUTRAL


@dataclass(frozen=True)
class DotPlot:
    """A bar from zero for each row, with a dot at the mean and whiskers for the interval."""

    label: str
    rows: Sequence[Dot]
    caption: str = ""
    share: bool = False
    """Whether the axis runs from 0% to 100%."""
    bounds: tuple[float, float] | None = None
    """The ends of the axis, where several plots need the same; None: what the values need."""


@dataclass(frozen=True)
class Histogram:
    """Bars of one width: below the first edge, between two edges, and from the last edge on."""

    label: str
    edges: Sequence[float]
    counts: Sequence[int]
    colour: int
    caption: str = ""


@dataclass(frozen=True)
class LinePlot:
    """A line for each series, by name; None and NaN leave a gap."""

    label: str
    ticks: Sequence[str]
    """The names along the horizontal axis."""
    series: Mapping[str, Sequence[float | None]]
    caption: str = ""
    share: bool = False
    """Whether the values are shares, to be written in percent."""
    modalities: bool = True
    """Whether each series is a modality and has its colour; the axis then begins at zero."""
    bounds: tuple[float, float] | None = None
    """The ends of the axis, where several plots need the same; None: what the values need."""


@dataclass(frozen=True)
class MarkPlot:
    """A row for each name, with a mark for each series on one axis; None and NaN are left out."""

    label: str
    series: Sequence[str]
    """What each mark is."""
    rows: Mapping[str, Sequence[float | None]]
    """By the name of the row, the value in each series."""
    caption: str = ""
    share: bool = False
    """Whether the values are shares, to be written in percent."""


Plot: TypeAlias = DotPlot | Histogram | LinePlot | MarkPlot


@dataclass(frozen=True)
class Grid:
    """Small plots side by side, under one legend."""

    plots: Sequence[Plot]

    @property
    def legend(self) -> Sequence[str]:
        """The names of the series in the first plot, if there are several."""
        first = self.plots[0]
        names = list(first.series) if isinstance(first, (LinePlot, MarkPlot)) else []
        return names if len(names) > 1 else ()


@dataclass(frozen=True)
class Section:
    """A titled part of a report. A medium that can show none of its parts leaves it out."""

    title: str
    parts: Sequence[Part]
    lead: str = ""
    """What the section shows and how to read it. Only HTML has the room for it."""
    folded: bool = False
    """Whether the section is for few readers: only its title is seen at first, where that can be
    done."""


Part: TypeAlias = str | Table | Code | Plot | Grid | Section
"""A string is a paragraph."""


@dataclass(frozen=True)
class Card:
    """One value to be seen first."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that is shown, in the order in which it is read."""

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    """What the report is of: the file, the date, the number of samples."""
    conclusion: str = ""
    """What was found, in a few sentences."""
    caveats: Sequence[str] = ()
    """What limits the conclusion: a sentence or two each."""
    warnings: Sequence[str] = ()
    """What a reader must know before any value."""
    cards: Sequence[Card] = ()
    note: str = ""
    """How the values are to be read."""

    def shown_in(self, medium: Medium) -> list[Section]:
        """The sections as this medium shows them: without the parts that it cannot show."""
        return [kept for section in self.sections if (kept := _kept(section, medium))]


def _kept(section: Section, medium: Medium) -> Section | None:
    parts = [kept for part in section.parts if (kept := _part(part, medium))]
    return replace(section, parts=parts) if parts else None


def _part(part: Part, medium: Medium) -> Part | None:
    if isinstance(part, Section):
        return _kept(part, medium)
    if isinstance(part, Table):
        return part if medium in part.media and part.rows else None
    if isinstance(part, str):
        return part or None
    if isinstance(part, Code):
        return part if medium != "terminal" else None  # it was typed there
    if isinstance(part, Grid) and not part.plots:
        return None
    return part if medium == "html" else None
