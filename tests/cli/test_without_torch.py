"""Help and refusals come before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cmiei_hooks.cli.commands import _OPTIONS

LINES = [
    (["--help"], 0),
    (["--version"], 0),
    *(([command, "--help"], 0) for command in _OPTIONS),
    ([], 2),
    (["nonsense"], 2),
    (["diagnose", "--model", "my.py:model"], 2),
    (["diagnose", "--features", "f.pt"], 2),
    (["diagnose", "--splits", "32", "48", "24"], 2),
    (["diagnose", "REL_THR=2"], 2),
    (["diagnose", "best.pth"], 2),
    (["discover"], 2),
    (["discover", "--model", "a:b"], 2),
    (["verify", "--model", "a:b", "--data", "a:c"], 2),
    (["diagnose", "--model", "a:b"], 2),
    (["diagnose", "--drop", "nothing"], 2),
    (["diagnose", "ABS_THR", "much"], 2),
    (["diagnose", "--config", "no.yml"], 2),
    (["demo", "--seed", "x"], 2),
    (["run", "--head", "classifier", "--splits", "4,3"], 2),
    (["run", "--head", "classifier", "--splits", "4,3", "--", "no.py"], 2),
    (["run", "--splits", "4,3", "--modalities", "{a: 1, b: 2}", "--", __file__], 2),
    (["run", "--head", "classifier", "--splits", "4,3", "--act", "--", __file__], 2),
    (["validate"], 2),
    (["validate", "--npz", "a.npz"], 2),
    (["validate", "--train", "a:b", "--jobs", "0"], 2),
    (["validate", "--train", "a:b", "K"], 2),
]

SCRIPT = """
import contextlib, io, json, sys
from cmiei_hooks.cli import main
ends = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(line)
        except SystemExit as end:
            code = end.code
    ends.append((code, "torch" in sys.modules or "numpy" in sys.modules))
print(json.dumps(ends))
"""


def ends(lines):
    """The exit codes of command lines in one fresh process, and whether torch came with them."""
    words = [sys.executable, "-c", SCRIPT, json.dumps(lines)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [tuple(end) for end in json.loads(done.stdout)]


@pytest.mark.slow
def test_help_the_version_and_wrong_command_lines_need_no_torch():
    assert ends([line for line, _ in LINES]) == [(code, False) for _, code in LINES]


@pytest.mark.slow
@pytest.mark.negative_control
def test_a_command_that_begins_its_work_needs_torch():
    line = ["discover", "--model", "no.such:model", "--data", "a:b"]
    assert ends([line]) == [(3, True)]


def test_the_version(capsys):
    from cmiei_hooks import __version__
    from cmiei_hooks.cli import main

    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cmiei {__version__}\n"
