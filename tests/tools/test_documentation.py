"""Pages out of the source: every error, option and key, and only those."""

from __future__ import annotations

import argparse
import html
import re
import textwrap

import pytest
from helpers import ROOT

from cmiei_hooks.cli import build_parser
from tools.documentation import REPORTS, commands_page, errors_page, report_page
from tools.documentation.errors import LAST_LINE

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROW = re.compile(r"^- `(.+?)`<br>(.+)$", re.M)


def unlisted(messages: list[str], page: str = PAGE) -> list[str]:
    """The first lines of errors that no row of the page can have become."""
    rows = [re.escape(text).replace("…", ".+") for text, _ in ROW.findall(page)]
    return [m for m in messages if not any(re.search(row, m.replace("`", "'")) for row in rows)]


def kept() -> list[str]:
    """The first lines of all errors of the package in the golden files."""
    files = [path for path in (ROOT / "tests/golden").rglob("*.md") if path.parent.name != "tools"]
    text = "".join(path.read_text("utf-8") for path in files)
    return re.findall(r"^([^`\s].*)\n(?:  (?:got|expected): .*\n)+  remedy: ", text, re.M)


def test_every_error_that_the_tests_have_seen_is_on_the_page():
    assert len(set(kept())) > 100
    assert unlisted(kept()) == []


@pytest.mark.negative_control
def test_an_error_that_is_not_on_the_page_would_be_seen():
    shorter = PAGE.replace("nn.DataParallel copies", "something else copies")
    assert "nn.DataParallel copies" in unlisted(kept(), shorter)[0]


def test_no_remedy_is_left_to_the_reader():
    remedies = [remedy for _, remedy in ROW.findall(PAGE)]
    assert len(remedies) > 150
    assert [remedy for remedy in remedies if remedy == LAST_LINE] == []


def test_texts_are_read_from_the_calls_and_gaps_filled_from_kept_messages(tmp_path):
    package, golden = tmp_path / "package", tmp_path / "golden"
    for folder in (package / "fusion", golden / "fusion"):
        folder.mkdir(parents=True)
    (package / "errors.py").write_text("class HeadError(ValueError): ...\n")
    (package / "fusion" / "head.py").write_text(
        textwrap.dedent("""
            WAY = "turn it round"

            def refuse(name, remedy, wide):
                raise HeadError(f"the head {name!r} is upside down", remedy=WAY)
                raise HeadError("no such head", remedy=did_you_mean(name) or "name one|two")
                raise HeadError(f"this is too {wide} for the head", remedy=remedy)
                warnings.warn(f"the head {name!r} leans to one side", CMIEIWarning)
        """)
    )
    (golden / "fusion" / "test_head.md").write_text(
        "this is too wide for the head\n  got:      5\n  remedy:   leave some_thing out\n"
    )
    page = errors_page(package, golden)
    rows = dict(ROW.findall(page))
    assert rows == {
        "the head … is upside down": "turn it round",
        "no such head": "did you mean …?; or name one|two",
        "this is too … for the head": "the message says it, such as: leave some\\_thing out",
    }
    assert page.endswith("- the head … leans to one side\n")


def test_a_room_whose_errors_have_no_section_is_refused(tmp_path):
    (tmp_path / "new_room").mkdir()
    (tmp_path / "errors.py").write_text("class HeadError(ValueError): ...\n")
    (tmp_path / "new_room" / "a.py").write_text("def f():\n    raise HeadError('this is wrong')\n")
    with pytest.raises(SystemExit, match="new_room"):
        errors_page(tmp_path, tmp_path)


def test_the_page_of_commands_has_every_option():
    parser = build_parser()
    page = html.unescape(commands_page(parser, "0: done."))
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in subparsers.choices.items():
        section = page.partition(f"## cmiei {name}\n")[2].partition("\n## ")[0]
        options = re.findall(r"^ +(--[a-z-]+)", command.format_help(), re.M)
        assert options
        assert [option for option in options if f"| `{option}" not in section] == []


def test_the_page_of_the_report_goes_into_objects_and_lists():
    inner = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    schema = {"properties": {"by": {"type": "object", "additionalProperties": inner}}}
    page = report_page({**TITLED, **schema, "required": ["by"]}, "report")
    assert page.endswith(
        "| `by` | *list of objects by name.* |\n| `by.*[].n` | *integer.* *May be missing.* |\n"
    )


TITLED = {"title": "report.json of a test", "description": "What a test writes."}


def test_the_page_of_the_report_has_keys_of_which_only_the_beginning_is_known():
    schema = {"patternProperties": {"^CI_": {"type": "number", "description": "Of each."}}}
    page = report_page({**TITLED, "properties": {"epochs": schema}}, "report")
    assert page.endswith("| `epochs.CI_*` | *number.* Of each. |\n")


@pytest.mark.parametrize("name", REPORTS)
def test_the_pages_of_the_reports_name_each_other_and_describe_every_key(name):
    page = (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8")
    others = {f"({other}.md)" for other in REPORTS if other != name}
    assert set(re.findall(r"\([a-z]+\.md\)", page)) == others
    assert ("An interval is" in page) == ("*interval.*" in page)
