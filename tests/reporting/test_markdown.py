"""Markdown: a text is text and never markup."""

from __future__ import annotations

import html
import re

import pytest
from media import Page, rendered
from sample_report import HOSTILE, report

from cmiei_hooks.reporting import Code, Report, Section, Table, to_markdown, visible

STARTS = (
    "# a",
    "- a",
    "+ a",
    "1. a",
    "2) a",
    "> a",
    "---",
    "***",
    "===",
    "_a_",
    "__a__",
    "![a](b)",
)


def test_the_text(golden):
    golden(to_markdown(report()))


@pytest.mark.parametrize("word", [*HOSTILE, *STARTS, "~~a~~", "[^1]", "[a][b]", "[a]: b", "a\\"])
def test_a_name_is_text_and_never_markup(word):
    table = Table(word, (word, "b"), [(word, "1"), (word, "2")])
    shown = Report(word, [Section(word, [word, table])], conclusion=word, warnings=[word])
    markdown = to_markdown(shown)
    markdown.encode("utf-8")
    page = rendered(markdown)
    text = html.unescape(re.sub(r"<[^>]*>", "", page)).replace("\u200b", "")
    assert text.count(visible(word).strip()) >= 8
    known = "blockquote|h2|h3|p|strong|table|tbody|td|th|thead|tr"
    assert not re.findall(rf"<(?!/|(?:{known})\b)[^>]*>", page)
    assert [len(row) for row in Page(page).tables[0]] == [2, 2, 2]


def test_a_command_stays_inside_its_fence():
    section = Section("folded", [Code("echo ```` </details>")], folded=True)
    page = rendered(to_markdown(Report("title", [section])))
    assert page.count("<details>") == page.count("</details>") == 1
    assert "echo ```` &lt;/details&gt;" in page
