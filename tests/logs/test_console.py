"""Lines on a console: whole in a pipe, on a terminal and beside progress bars."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Fused
from rich.console import Console as RichConsole
from rich.text import Text
from tqdm import tqdm

import cmiei_hooks
from cmiei_hooks import Config, Console, LogRecord

ROOT = Path(__file__).parents[2]


def test_piped_into_a_file_every_record_is_one_plain_line(start, figures, capsys):
    console = Console()
    console(start)
    console(figures)
    assert capsys.readouterr().out == f"{start.text()}\n{figures.text()}\n"


def test_on_a_terminal_there_is_colour_and_the_same_text(figures):
    stream = io.StringIO()
    Console(RichConsole(file=stream, force_terminal=True, width=60, highlight=False))(figures)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert Text.from_ansi(text).plain.strip() == figures.text()


@pytest.mark.parametrize("name", ["[red]x", "[/]", "x[/bold]", ":smile:", "\\[b]"])
def test_names_are_not_markup(start, name, capsys):
    record = replace(start, head=name, names=(name, "n", "t"))
    Console()(record)
    assert f"head {name} | splits {name}:512 n:512 t:512 | " in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "t\\xf6ne"), ("utf-8", "töne")])
def test_names_that_the_output_cannot_show_are_escaped(start, encoding, shown, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    Console()(replace(start, names=("töne", "n", "t")))
    out.flush()
    assert f"splits {shown}:512" in out.buffer.getvalue().decode(encoding)


@pytest.mark.negative_control
def test_as_markup_a_name_would_be_lost(capsys):
    RichConsole(highlight=False).print("head [red]x")
    assert capsys.readouterr().out == "head x\n"


def screen(text: str) -> list[str]:
    """What a terminal shows: a carriage return goes back to the start of the line."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return [line for line in lines if line]


def test_beside_a_tqdm_bar_the_lines_stay_whole(figures):
    stream = io.StringIO()
    console = Console(RichConsole(file=stream, width=200, highlight=False))
    for _ in tqdm(range(3), file=stream, mininterval=0, ascii=True, ncols=60):
        console(figures)
    lines = screen(stream.getvalue())
    assert lines[:3] == [figures.text()] * 3
    assert lines[3].startswith("100%|")
    assert len(lines) == 4


@pytest.mark.slow
def test_beside_a_rich_progress_bar_the_lines_stay_whole(tmp_path):
    """On a real (pseudo) terminal, as a user sees it."""
    script = tmp_path / "bar.py"
    script.write_text(
        "import time\n"
        "from rich.progress import track\n"
        "from cmiei_hooks import Config, Console, LogRecord\n"
        "console = Console()\n"
        "record = LogRecord('disabled', config=Config(), head='', names=(), splits=())\n"
        "for _ in track(range(3)):\n"
        "    time.sleep(0.15)\n"
        "    console(record)\n"
    )
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=child, stderr=child, env=environment
    )
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a pseudo-terminal with an error
        while chunk := os.read(parent, 4096):
            shown += chunk
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    line = LogRecord("disabled", config=Config(), head="", names=(), splits=()).text()
    whole = [part for part in re.split(r"[\r\n]+", text) if part.strip() == line]
    assert len(whole) == 3, text


def test_the_default_logger_prints_to_the_stdout_of_the_moment(capsys):
    handle = cmiei_hooks.attach(Fused(), head="classifier", splits=[4, 3, 5])
    start = LogRecord("start", "classifier", handle.names, (4, 3, 5), handle.config)
    assert capsys.readouterr().out == start.text() + "\n"


def test_without_tqdm_nothing_imports_it(monkeypatch, capsys, figures):
    monkeypatch.delitem(sys.modules, "tqdm")
    Console()(figures)
    assert "tqdm" not in sys.modules
    assert capsys.readouterr().out == figures.text() + "\n"
