"""The lines that people read, to the letter, and every other sink."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import Fused
from rich.console import Console as RichConsole
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import cmiei_hooks
from cmiei_hooks import CMIEIError, Config, Console, JSONLines, LogRecord, Scalars, StandardLogging
from cmiei_hooks.logs.sinks import Reporter

ROOT = Path(__file__).parents[2]
WHERE = {"head": "classifier", "names": ("r", "n", "t"), "splits": (512, 512, 512)}
START = LogRecord("start", config=Config(enabled=True), **WHERE)
FIGURES = LogRecord(
    "figures",
    config=Config(enabled=True),
    step=150,
    epoch=6,
    metrics={
        "C_MIEI_Ratio": 0.3125,
        "CI_r": 0.41234,
        "CI_n": 0.1021,
        "CI_t": 0.000031,
        "Hist_r": 0.71,
        "Hist_n": 0.2,
        "Hist_t": 0.09,
    },
    **WHERE,
)
START_LINE = (
    "C-MIEI attached | K 3 | SIGMA 0.05 | ABS_THR 0.03 | REL_THR 1.25 | SAMPLE_LEVEL True | "
    "P_MAX 0.5 | WARMUP_EPOCHS 5 | head classifier | splits r:512 n:512 t:512"
)
FIGURES_LINE = (
    "C-MIEI classifier | epoch   6 step    150 | C_MIEI_Ratio 0.312 | "
    "CI_r 0.4123 / CI_n 0.1021 / CI_t 3.1e-05 | Hist[r,n,t] 0.71 / 0.20 / 0.09"
)


def test_the_golden_lines():
    assert START.text() == START_LINE
    assert FIGURES.text() == FIGURES_LINE


def test_piped_into_a_file_every_record_is_one_plain_line(capsys):
    console = Console()
    console(START)
    console(FIGURES)
    assert capsys.readouterr().out == f"{START_LINE}\n{FIGURES_LINE}\n"


def test_on_a_terminal_there_is_colour_and_the_same_text():
    stream = io.StringIO()
    Console(RichConsole(file=stream, force_terminal=True, width=60, highlight=False))(FIGURES)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert Text.from_ansi(text).plain.strip() == FIGURES_LINE


def screen(text: str) -> list[str]:
    """What a terminal shows: a carriage return goes back to the start of the line."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return [line for line in lines if line]


def test_beside_a_tqdm_bar_the_lines_stay_whole():
    stream = io.StringIO()
    console = Console(RichConsole(file=stream, width=200, highlight=False))
    for _ in tqdm(range(3), file=stream, mininterval=0, ascii=True, ncols=60):
        console(FIGURES)
    lines = screen(stream.getvalue())
    assert lines[:3] == [FIGURES_LINE] * 3
    assert lines[3].startswith("100%|")
    assert len(lines) == 4


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


def test_json_lines(tmp_path):
    path = tmp_path / "deep" / "run.jsonl"
    sink = JSONLines(path)
    sink(START)
    sink(FIGURES)
    sink(LogRecord("figures", config=Config(), metrics={"CI_r": math.nan}, **WHERE))
    start, figures, empty = map(json.loads, path.read_text().splitlines())
    assert start["event"] == "start"
    assert start["K"] == 3
    assert start["head"] == start["HEAD"] == "classifier"
    assert start["SPLITS"] == [512, 512, 512]
    where = {"event": "figures", "head": "classifier", "epoch": 6, "step": 150}
    assert figures == where | FIGURES.metrics
    assert empty["CI_r"] is None


def test_scalars_go_to_anything_with_add_scalar():
    class Writer:
        def __init__(self) -> None:
            self.seen = []

        def add_scalar(self, tag, value, step):
            self.seen.append((tag, value, step))

    writer = Writer()
    sink = Scalars(writer)
    sink(START)
    assert writer.seen == []
    sink(FIGURES)
    assert writer.seen == [(f"C_MIEI/{k}", v, 150) for k, v in FIGURES.metrics.items()]
    with pytest.raises(CMIEIError, match="add_scalar"):
        Scalars(object())


def test_the_real_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with SummaryWriter(str(tmp_path)) as writer:
        Scalars(writer)(FIGURES)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {f"C_MIEI/{key}" for key in FIGURES.metrics}
    (event,) = events.Scalars("C_MIEI/CI_r")
    assert (event.step, event.value) == (150, pytest.approx(0.41234))


def test_the_logging_module(caplog):
    with caplog.at_level(logging.INFO, logger="cmiei_hooks"):
        StandardLogging()(FIGURES)
        StandardLogging(logging.getLogger("cmiei_hooks.mine"))(START)
    assert [(r.name, r.message) for r in caplog.records] == [
        ("cmiei_hooks", FIGURES_LINE),
        ("cmiei_hooks.mine", START_LINE),
    ]


def steps_logged(k: int, period: int, steps: int) -> list[int]:
    model, records = Fused(), []
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=[4, 3, 5], k=k, log_period=period, log=records.append
    )
    handle.set_epoch(0)
    for _ in range(steps):
        model(torch.randn(4, 6))
    assert records[0].event == "start"
    assert all(record.event == "figures" for record in records[1:])
    return [record.step for record in records[1:]]


def test_one_line_a_period_at_its_first_estimation_step():
    assert steps_logged(k=1, period=5, steps=12) == [0, 5, 10]
    assert steps_logged(k=3, period=5, steps=20) == [0, 6, 12, 15]
    assert steps_logged(k=3, period=1, steps=7) == [0, 3, 6]


def test_the_logged_figures_are_the_metrics(x):
    model, records = Fused(), []
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=[4, 3, 5], k=1, log_period=1, log=[records.append]
    )
    handle.set_epoch(2)
    model(x)
    assert records[-1].metrics == handle.metrics()
    assert (records[-1].epoch, records[-1].step) == (2, 0)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("3", 0)])
def test_only_rank_0_logs(monkeypatch, rank, lines):
    monkeypatch.setenv("RANK", rank)
    seen = []
    reporter = Reporter([seen.append], 50)
    reporter.emit(FIGURES)
    assert len(seen) == lines
    assert reporter.due(0) == bool(lines)


def test_the_default_logger_prints_to_the_stdout_of_the_moment(capsys):
    cmiei_hooks.attach(Fused(), head="classifier", splits=[4, 3, 5])
    assert capsys.readouterr().out.startswith("C-MIEI attached | K 3 |")


@pytest.mark.parametrize("log", [3, "console", [print, None], object()])
def test_what_cannot_be_called_is_no_logger(log):
    with pytest.raises(CMIEIError, match="logger"):
        cmiei_hooks.attach(Fused(), head="classifier", splits=[4, 3, 5], log=log)


def test_without_tqdm_nothing_imports_it(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "tqdm")
    Console()(FIGURES)
    assert "tqdm" not in sys.modules
    assert capsys.readouterr().out == FIGURES_LINE + "\n"
