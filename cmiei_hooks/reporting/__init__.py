"""Reports for people: sections of text, tables and plots, shown in a terminal, in Markdown and in
HTML.

It knows no other room; whoever has values to show makes sections of them.
"""

from .files import plain, to_csv, to_json, whole_file, write_files
from .formatting import (
    DASH,
    count,
    counted,
    estimate,
    finite,
    in_points,
    number,
    p_value,
    percent,
    setting,
    visible,
)
from .html import style, to_html
from .markdown import to_markdown
from .plots import Bounds, axis_of, svg
from .provenance import day, git_state, sha256, today, versions
from .sections import (
    ALL,
    NEUTRAL,
    WRITTEN,
    Card,
    Cell,
    Code,
    Dot,
    DotPlot,
    Grid,
    Histogram,
    LinePlot,
    MarkPlot,
    Medium,
    Part,
    Report,
    Section,
    Table,
)
from .streams import ClosableStream, readers_may_leave
from .terminal import to_terminal

__all__ = [
    "ALL",
    "DASH",
    "NEUTRAL",
    "WRITTEN",
    "Bounds",
    "Card",
    "Cell",
    "ClosableStream",
    "Code",
    "Dot",
    "DotPlot",
    "Grid",
    "Histogram",
    "LinePlot",
    "MarkPlot",
    "Medium",
    "Part",
    "Report",
    "Section",
    "Table",
    "axis_of",
    "count",
    "counted",
    "day",
    "estimate",
    "finite",
    "git_state",
    "in_points",
    "number",
    "p_value",
    "percent",
    "plain",
    "readers_may_leave",
    "setting",
    "sha256",
    "style",
    "svg",
    "to_csv",
    "to_html",
    "to_json",
    "to_markdown",
    "to_terminal",
    "today",
    "versions",
    "visible",
    "whole_file",
    "write_files",
]
