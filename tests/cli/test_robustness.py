"""Commands whose reader leaves, that are interrupted, or that are given huge numbers and YAML."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from cmiei_hooks.cli import main

ROOT = Path(__file__).parents[2]

PROJECT = """
import os, signal, time
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(8, 3)
    def forward(self, x):
        return self.classifier(x)

def model():
    return Model()

def loader():
    print("a line of the user's")
    return [torch.randn(5, 8)] * 2

def waiting():
    yield torch.randn(5, 8)
    print("waiting", flush=True)
    time.sleep(60)
"""

OPTIONS = "--model code_of_user:model --checkpoint c.pth --data code_of_user:loader "
OPTIONS += "--head classifier --splits 5,3 --output out"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code_of_user.py").write_text(PROJECT)
    torch.manual_seed(0)
    torch.save(nn.ModuleDict({"classifier": nn.Linear(8, 3)}).state_dict(), "c.pth")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def shell(command: str) -> subprocess.CompletedProcess[str]:
    cmiei = f"{sys.executable} -m cmiei_hooks"
    return subprocess.run(
        ["bash", "-c", command.replace("cmiei", cmiei, 1)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def codes(command: str) -> tuple[int, str]:
    """The exit code of the first command of a pipe, and everything on stderr."""
    done = shell(f"{command}; exit ${{PIPESTATUS[0]}}")
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"cmiei diagnose {OPTIONS} | head -1", 0),
        (f"cmiei diagnose {OPTIONS} --fail-share 0.01 2>/dev/null | true", 1),
        (f"cmiei diagnose {OPTIONS} >&-", 0),
        (f"cmiei diagnose {OPTIONS} <&- >&- 2>&-", 0),
        ("cmiei --help | true", 0),
        ("cmiei nonsense 2>&1 | true", 2),
    ],
)
def test_a_command_whose_reader_leaves_ends_quietly_with_its_own_code(project, command, code):
    assert codes(command) == (code, "")
    if "diagnose --" not in command.replace("diagnose --help", "") or code == 3:
        return
    assert json.loads((project / "out" / "report.json").read_text())["n_samples"] == 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file of Linux")
def test_a_full_disk_under_stdout_is_one_message(project):
    code, error = codes(f"cmiei diagnose {OPTIONS} > /dev/full")
    assert code == 3
    assert "standard output cannot be written to" in error
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    assert json.loads((project / "out" / "report.json").read_text())["n_samples"] == 10


@pytest.mark.slow
def test_ctrl_c_prints_one_line(project):
    command = [sys.executable, "-m", "cmiei_hooks", "diagnose", *OPTIONS.split()]
    command[command.index("code_of_user:loader")] = "code_of_user:waiting"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits SIG_IGN
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    signal.signal(signal.SIGINT, before)
    assert started.stdout.readline() == "waiting\n"
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130
    assert error == "cmiei diagnose: interrupted\n"


@pytest.mark.parametrize("place", ["options", "parser", "message"])
def test_ctrl_c_at_any_moment(project, monkeypatch, capsys, place):
    from cmiei_hooks.cli import commands, diagnose_options

    def pressed(*args, **kwargs):
        raise KeyboardInterrupt

    if place == "options":
        monkeypatch.setattr(diagnose_options, "configuration", pressed)
    else:
        monkeypatch.setattr(commands, "build_parser" if place == "parser" else "_say", pressed)
    assert main(["diagnose", "--model", "a:b"]) == 130
    said = "" if place == "message" else "cmiei diagnose: interrupted\n"
    assert capsys.readouterr().err == said


DIGITS = "9" * 5000
BOMB = "{a: &a [x, x, x, x, x, x, x, x, x], b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a], "
BOMB += "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b], d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c], "
BOMB += "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d], f: [*e, *e, *e, *e, *e, *e, *e, *e, *e]}"


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["diagnose", *OPTIONS.split(), option, DIGITS]
            for option in ("--seed", "--limit", "--dim", "--splits", "--logits", "--fail-share")
        ),
        *(
            ["diagnose", *OPTIONS.split(), f"{option}=-{DIGITS}"]
            for option in ("--labels", "--group-by")
        ),
        ["diagnose", *OPTIONS.split(), "--inputs", f"0,{DIGITS}"],
        ["diagnose", *OPTIONS.split(), "--model-args", f"depth={DIGITS}"],
        ["diagnose", *OPTIONS.split(), "--splits", f"a=5,b={DIGITS}"],
        ["diagnose", *OPTIONS.split(), "K", DIGITS],
        ["diagnose", *OPTIONS.split(), "ABS_THR", BOMB],
        ["diagnose", *OPTIONS.split(), "--modalities", BOMB],
        ["diagnose", *OPTIONS.split(), "--config", "bomb.yml"],
        ["diagnose", *OPTIONS.split(), "--config", "digits.yml"],
        ["demo", "--seed", DIGITS],
        ["validate", "--train", "a:b", "--seeds", DIGITS],
        ["validate", "--train", "a:b", "--seeds", DIGITS[:18]],
        ["diagnose", *OPTIONS.split(), "--seed", DIGITS[:4000]],
        ["validate", "--train", "a:b", "--first-seed", DIGITS],
        ["validate", "--train", "a:b", "--jobs", DIGITS],
        ["validate", "--train", "a:b", "--args", f"x={BOMB}"],
        ["validate", "--train", "a:b", "K", DIGITS],
    ],
    ids=lambda words: " ".join([words[0], *words[-2:]])[:40],
)
def test_what_is_huge_is_a_usage_error_at_once(project, words, capsys):
    (project / "bomb.yml").write_text(BOMB)
    (project / "digits.yml").write_text(f"MODEL: {{C_MIEI: {{K: {DIGITS}}}}}")
    before = time.process_time()
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    assert time.process_time() - before < 5
    said = capsys.readouterr().err
    assert code == 2, said[:300]
    assert "Traceback" not in said
    assert len(said.rpartition("error:")[2]) < 1000
