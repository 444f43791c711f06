"""The README may not say what is not so."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

import cmiei_hooks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_example_prints_its_first_line(capsys):
    model = nn.Sequential()
    model.classifier = nn.Linear(3 * 512, 50)
    example = re.search(r"```python\n(cmiei_hooks\.attach\(.*\))\n```", README)
    handle = eval(example[1], {"cmiei_hooks": cmiei_hooks, "model": model})
    handle.remove()
    printed = capsys.readouterr().out.strip()
    assert re.search(r"^C-MIEI attached .*$", README, re.M)[0] == printed


def test_the_two_commands_are_single_lines_that_make_their_own_environment():
    commands = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/python tools/demo.py",
        ".venv/bin/python -m pytest",
    ]
    assert all("-c constraints.txt" in command for command in commands)
