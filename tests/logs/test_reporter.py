"""When records are due, who gets them, and what happens when a sink fails."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import Fused

import cmiei_hooks
from cmiei_hooks import CMIEIWarning, JSONLines
from cmiei_hooks.errors import ConfigError
from cmiei_hooks.logs import Reporter

ROOT = Path(__file__).parents[2]


def attach(model: Fused, **settings):
    return cmiei_hooks.attach(model, head="classifier", splits=[4, 3, 5], **settings)


def steps_logged(k: int, period: int, steps: int) -> list[int]:
    model, records = Fused(), []
    handle = attach(model, k=k, log_period=period, log=records.append)
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


def test_what_is_logged_are_the_metrics(x):
    model, records = Fused(), []
    handle = attach(model, k=1, log_period=1, log=[records.append])
    handle.set_epoch(2)
    model(x)
    assert records[-1].metrics == handle.metrics()
    assert (records[-1].epoch, records[-1].step) == (2, 0)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("3", 0)])
def test_only_rank_0_logs(monkeypatch, figures, rank, lines):
    monkeypatch.setenv("RANK", rank)
    seen = []
    reporter = Reporter([seen.append], 50)
    reporter.emit(figures)
    assert len(seen) == lines
    assert reporter.active == bool(lines)


@pytest.mark.parametrize("log", [3, "console", [print, None], object()])
def test_what_cannot_be_called_is_no_logger(log):
    with pytest.raises(ConfigError):
        attach(Fused(), log=log)


class Fails:
    """Takes some records, then raises."""

    def __init__(self, error: BaseException, after: int) -> None:
        self.error, self.left, self.calls = error, after, 0

    def __call__(self, record) -> None:
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            raise self.error


ERRORS = [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")]


def train(model: Fused, log, steps: int = 6) -> list[torch.Tensor]:
    torch.manual_seed(0)
    handle = attach(model, k=1, log_period=1, warmup_epochs=0, seed=0, log=log)
    handle.set_epoch(0)
    for _ in range(steps):
        model(torch.randn(8, 6)).square().sum().backward()
    handle.remove()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_sink_that_fails_is_dropped_with_one_warning(error, after, golden):
    """At the start or later; the other sinks get every record, and training does not change."""
    before, behind, sink = [], [], Fails(error, after)
    model = Fused()
    state = model.state_dict()
    with pytest.warns(CMIEIWarning) as caught:
        gradients = train(model, [before.append, sink, behind.append])
    (warning,) = [w for w in caught if "logger" in str(w.message)]
    golden(warning.message)
    assert sink.calls == after + 1
    events = ["start", *6 * ["figures"], "epoch", "end"]
    assert [r.event for r in before] == [r.event for r in behind] == events
    untroubled = Fused()
    untroubled.load_state_dict(state)
    assert all(map(torch.equal, gradients, train(untroubled, False)))


@pytest.mark.negative_control
def test_without_the_guard_a_sink_ends_training(monkeypatch):
    def emit(self, record):
        for sink in self.sinks:
            sink(record)

    monkeypatch.setattr(Reporter, "emit", emit)
    with pytest.raises(OSError, match="No space"):
        train(Fused(), Fails(ERRORS[0], 3))


def test_a_warning_that_is_an_error_is_raised_once_and_after_all_sinks(figures):
    seen = []
    reporter = Reporter([Fails(ERRORS[0], 0), seen.append], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CMIEIWarning)
        with pytest.raises(CMIEIWarning):
            reporter.emit(figures)
        reporter.emit(figures)
    assert seen == [figures, figures]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_interrupt_is_not_a_failure(error, figures):
    with pytest.raises(type(error)):
        Reporter([Fails(error, 0)], 1).emit(figures)


def test_a_file_that_cannot_be_written_is_dropped(tmp_path, figures):
    (tmp_path / "file").touch()
    reporter = Reporter([JSONLines(tmp_path / "file" / "log.jsonl")], 1)
    with pytest.warns(CMIEIWarning):
        reporter.emit(figures)
    assert not reporter.active


SCRIPT = """
import sys, warnings
import torch
from helpers import Fused
import cmiei_hooks

model = Fused()
if sys.argv[1] == "closed":
    sys.stdout.close()
handle = cmiei_hooks.attach(model, head="classifier", splits=[4, 3, 5], k=1, log_period=1)
handle.set_epoch(0)
for _ in range(3):
    model(torch.randn(8, 6))
print("trained", handle.step, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pipe", "closed"])
def test_training_goes_on_when_nobody_reads_the_output(tmp_path, how):
    """As in ``python train.py | head -n 0``."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(script), how],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert "trained 3" in done.stderr
    assert done.stderr.count("CMIEIWarning") == 1
