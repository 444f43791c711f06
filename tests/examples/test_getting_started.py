"""The first page, run from start to end in the folder of the examples."""

from __future__ import annotations

import re

import pytest
from helpers import ROOT

PAGE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.M | re.S)


def shape(line: str) -> str:
    """A line without its numbers and the widths of its table."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.]*", "#", line)).strip()


def missing(shown: str, printed: str) -> list[str]:
    """The lines of a block that were not printed, or not in this order."""
    lines = iter(map(shape, printed.splitlines()))
    return [line for line in shown.splitlines() if line != "..." and shape(line) not in lines]


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # the notes of the audits
def test_the_page_works_from_start_to_end(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    names: dict = {"__name__": "page"}
    printed, shown = "", 0
    for kind, block in BLOCK.findall(PAGE):
        if kind == "text":
            assert missing(block, printed) == []
            shown += 1
        else:
            exec(block, names)
            printed = capsys.readouterr().out
    assert shown == 3
    assert (tmp_path / "runs/plain/report.html").is_file()
    means = {name: interval.mean for name, interval in names["report"].influence.items()}
    assert means["audio"] > 3 * means["video"]


@pytest.mark.negative_control
def test_lines_that_are_not_printed_would_be_seen():
    assert missing("a 1\n...\nb 2\n", "a 3\nc\nb   4\n") == []
    assert missing("b 1\na 2\n", "a 1\nb 2\n") == ["a 2"]
