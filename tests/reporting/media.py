"""Reads back what the three media show, each in its own way."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from rich.console import Console

from cmiei_hooks.reporting import Report, to_terminal

VOID = {"meta", "br", "hr", "img", "input", "link"}
Rows = list[list[str]]


class Page(HTMLParser):
    """Reads HTML as a browser does: its tags, its text, and its tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.tables: list[Rows] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "small" and "td" in self.open:
            self.tables[-1][-1][-1] += " "

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def in_terminal(report: Report, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(to_terminal(report))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def terminal_tables(printed: str) -> list[Rows]:
    tables: list[Rows] = []
    for line in printed.splitlines():
        if line.startswith("╭"):
            tables.append([])
        elif line.startswith("│"):
            tables[-1].append([cell.strip() for cell in line.split("│")[1:-1]])
    return tables


def rendered(markdown: str) -> str:
    """As GitHub renders it, except that the one element it may hold as HTML is kept."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)


def text_of(page: str) -> str:
    """The text of HTML, a line for each block; a triangle marks what can be unfolded."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    page = re.sub(r"</(?:p|h\d|tr|li|title|dd|figcaption|text|pre|summary)>", "\n", page)
    page = re.sub(r"</(?:td|th|dt)>|<small>", " | ", page)
    page = page.replace("<summary>", "\N{BLACK RIGHT-POINTING SMALL TRIANGLE} ")
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    lines = (re.sub(r"[ \t]+", " ", line).strip(" |") for line in text.splitlines())
    return "\n".join(line for line in lines if line)
