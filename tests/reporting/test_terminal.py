"""The terminal: no markup, no escape sequences, and nothing that does not fit."""

from __future__ import annotations

import pytest
from media import in_terminal
from rich.console import Console
from sample_report import HOSTILE, report

from cmiei_hooks.reporting import to_terminal, visible


def test_the_text(golden):
    golden(in_terminal(report()))


@pytest.mark.parametrize("word", [*HOSTILE, "acc [train]", "[bold]"])
def test_names_are_shown_as_they_are_everywhere(word):
    printed = in_terminal(report(word), width=2000)
    shown = visible(word)
    lines = printed.splitlines()
    assert lines[0] == f"title {shown}"
    assert f"caption {shown}" in lines
    assert f"first {shown}" in lines
    header = next(line for line in lines if line.startswith(f"│ head {shown} "))
    assert header.endswith("│")
    assert printed.count(shown) == in_terminal(report(), width=2000).count("word")
    printed.encode("utf-8")


def test_no_escape_sequence_reaches_a_terminal_but_those_of_rich():
    def escapes(word: str) -> int:
        console = Console(width=2000, force_terminal=True, color_system="standard", highlight=False)
        with console.capture() as captured:
            console.print(to_terminal(report(word)))
        return captured.get().count("\x1b")

    assert escapes("\x1b[31mred\x1b]8;;http://e\x07") == escapes("word")
