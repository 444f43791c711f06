"""Reports for people: sections of text, tables and plots, shown in a terminal, in Markdown and in
HTML.

It knows no other room; whoever has numbers to show makes sections of them.
"""

from .blocks import Report, document, figure, legend, paragraph, table
from .files import write_files
from .formatting import DASH, estimate, finite, number, part, plain
from .html import to_html
from .markdown import to_markdown
from .plots import NEUTRAL, Row, dots, lines, text
from .provenance import git_state, sha256, versions

__all__ = [
    "DASH",
    "NEUTRAL",
    "Report",
    "Row",
    "document",
    "dots",
    "estimate",
    "figure",
    "finite",
    "git_state",
    "legend",
    "lines",
    "number",
    "paragraph",
    "part",
    "plain",
    "sha256",
    "table",
    "text",
    "to_html",
    "to_markdown",
    "versions",
    "write_files",
]
