"""What the README says is so: its examples run, in their order, in an empty directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rich
import torch
from helpers import ROOT, Fused
from torch import nn

import cmiei_hooks

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST, *EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
SPLITS = [512, 512, 512]


def make(seed: int = 0) -> tuple[nn.Module, list]:
    torch.manual_seed(seed)
    batches = [(torch.randn(16, 6), torch.arange(16) % 7) for _ in range(4)]
    return Fused(widths=SPLITS), batches


def fit(model: nn.Module, loader: list) -> None:
    for x, label in loader:
        nn.functional.cross_entropy(model(x), label).backward()


def names() -> dict:
    """What the examples do not define."""
    model, loader = make()
    known = {"cmiei_hooks": cmiei_hooks, "rich": rich, "model": model, "loader": loader}
    return known | {"epochs": 2, "make": make, "fit": fit, "evaluate": lambda model: 0.5}


def test_it_is_short():
    assert len(README.encode()) <= 8000


def test_the_first_example_prints_its_first_line(capsys):
    known = names()
    exec(FIRST, known)
    known["handle"].remove()
    printed = capsys.readouterr().out.strip().splitlines()[0]
    assert re.search(r"^C-MIEI attached .*$", README, re.M)[0] == printed


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # the notes of the audits
def test_the_five_examples_run_one_after_the_other(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    known = names()
    torch.save(known["model"].state_dict(), "plain.pth")
    measure, act, audit, compare, prove = EXAMPLES
    exec(measure, known)
    assert "'CI_r': " in capsys.readouterr().out
    assert known["handle"].step == 4
    exec(act, known)
    assert known["handle"].epoch == 1
    known["handle"].remove()
    exec(audit, known)
    assert Path("runs/plain/report.html").is_file()
    known["model"].classifier.weight.data[:, :512] *= 3
    other = cmiei_hooks.audit(known["model"], known["loader"], head="classifier", splits=SPLITS)
    other.save("runs/equalised")
    capsys.readouterr()
    exec(compare, known)
    assert "influence" in capsys.readouterr().out.lower()
    exec(prove, known)
    assert known["train"](cmiei_hooks.attach, 0) == {"accuracy": 0.5}


def test_the_caption_says_what_the_picture_shows():
    picture = (ROOT / "docs" / "images" / "demo.svg").read_text(encoding="utf-8")
    rows = re.findall(r"(all|without \w+)[ \w]* (0\.\d+) plain, (0\.\d+) with C-MIEI", picture)
    complete, *without = (100 * (float(new) - float(old)) for _, old, new in rows)
    assert len(without) == 3
    caption = re.search(r"^\*The demo.*?\*$", README, re.M | re.S)[0].replace("\n", " ")
    assert f"{min(without):.1f} to {max(without):.1f} points better" in caption
    assert f"with all views it is {-complete:.1f} points worse" in caption


def test_the_influences_of_the_first_screen_are_those_of_the_log():
    printed = re.findall(r"CI_\w (\d\.\d+)", re.search(r"^C-MIEI .* 951 .*$", README, re.M)[0])
    first = re.search(r"`(CI_r .*)`\)", README)[1]
    assert re.findall(r"\d\.\d+", first) == [f"{float(value):.2f}" for value in printed]


def test_the_two_commands_are_single_lines_that_make_their_own_environment():
    commands = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/python tools/demo.py",
        ".venv/bin/python -m pytest",
    ]
    assert all("-c constraints.txt" in command for command in commands)


def test_it_says_nothing_that_only_one_machine_knows():
    assert not re.search(r"/home/|/tmp/|/root/", README)
