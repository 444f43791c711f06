"""The guide to DeMo, run from start to end in a stand-in for a checkout of DeMo."""

from __future__ import annotations

import json
import logging
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from helpers import ROOT

from cmiei_hooks.cli import main
from cmiei_hooks.training import step

pytest.importorskip("yacs", reason="yacs is not installed (extra dev)")

GUIDE = (ROOT / "docs" / "guides" / "demo-reid.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FOLDER = "configs/RGBNT201"
AUDIT = "configs.RGBNT201.demo_audit"
ALREADY = ["--config", f"{FOLDER}/DeMo_C_MIEI.yml", "--model", f"{AUDIT}:model"]
TRAIN = [*ALREADY, "--data", f"{AUDIT}:train"]


def commands(block: str) -> list[str]:
    return block.replace("\\\n", " ").strip().splitlines()


def forget() -> None:
    """What a new process would not have: the modules of the checkout, and its logger."""
    theirs = {"config", "configs", "data", "engine", "modeling"}
    for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
        del sys.modules[name]
    logging.getLogger("DeMo").handlers.clear()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """The working directory: a fresh checkout, with this project beside it."""
    here = tmp_path / "DeMo"
    shutil.copytree(Path(__file__).with_name("demo_checkout"), here)
    (tmp_path / "cmiei_hooks").symlink_to(ROOT)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    forget()
    yield here
    forget()


def patch(file: Path, diff: str) -> None:
    """Add the lines of a diff, each in front of the line that follows it there (or behind)."""
    text = file.read_text()
    for part in diff.split(" ...\n"):
        lines = [(line[0], line[1:]) for line in part.splitlines()]
        old = "".join(f"{line}\n" for sign, line in lines if sign == " ")
        new = "".join(f"{line}\n" for _, line in lines)
        assert text.count(old) == 1, f"{file.name} does not have the lines around the diff"
        text = text.replace(old, new)
    file.write_text(text)


def run(command: str, monkeypatch) -> int:
    """Run one command of the page: what is ours and DeMo's in this process, for its speed."""
    forget()
    words = shlex.split(command)
    if words[0] == "cmiei":
        return main(words[1:])
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        monkeypatch.setattr(step, "_open", weakref.WeakSet())  # without those of other tests
        left = runpy.run_path(words[1], run_name="__main__")
        step._close_all()  # a process of its own does this at its end
        assert left["model"] is not None
        return 0
    return subprocess.run(words, check=False).returncode


def shape(line: str) -> str:
    """A line without its numbers and the widths of its table."""
    words = re.sub(r"[-+]?\d[\d.,:e-]*", "#", line)
    return re.sub(r"[\s─]+", " ", words).strip()


def missing(shown: str, printed: str) -> list[str]:
    """The lines of a block of the page that were not printed, or not in this order."""
    lines = iter(map(shape, printed.splitlines()))
    return [line for line in shown.splitlines() if line != "..." and shape(line) not in lines]


def test_the_guide_works_from_start_to_end(checkout, monkeypatch, capsys):
    printed, blocks = "", BLOCK.findall(GUIDE)
    files = iter(re.findall(r"^Add to `(\S+)`:$", GUIDE, re.M))
    for kind, block in blocks:
        if kind == "diff":
            patch(checkout / next(files), block)
        elif kind == "sh":
            printed = ""
            for command in commands(block):
                assert run(command, monkeypatch) == 0, command
                printed = capsys.readouterr().out
        else:
            assert kind == "text"
            assert missing(block, printed) == []
    assert [kind for kind, _ in blocks].count("text") == 4
    report = {
        name: json.loads((checkout / f"runs/audit-{name}/report.json").read_text())
        for name in ("train", "query")
    }
    assert (report["train"]["n_samples"], report["query"]["n_samples"]) == (96, 32)
    assert report["train"]["accuracy"]["mean"] > 0.9
    assert report["train"]["environment"]["mode"] == "training branch"
    assert "accuracy" not in report["query"]
    assert {one["value"] for one in report["query"]["strata"]["group"]} == set("0123")
    compared = json.loads((checkout / "runs/comparison/report.json").read_text())
    assert list(compared["runs"]) == ["plain", "cmiei"]
    assert any(line["difference"] for line in compared["comparisons"][0]["lines"])


@pytest.mark.negative_control
def test_lines_that_are_not_printed_would_be_seen():
    printed = "│ modality │ influence │\n│ r        │ 0.0713    │\n"
    assert missing("│ modality  │ influence │\n...\n│ r │  1.5 │\n", printed) == []
    assert missing("│ modality │ share │\n", printed) == ["│ modality │ share │"]
    swapped = "│ r │ 0.1 │\n│ modality │ influence │"
    assert missing(swapped, printed) == ["│ modality │ influence │"]


FORWARD = ["--forward", f"{AUDIT}:forward"]
TRIES = {
    "nothing but the names": (
        [],
        "columns of the batch would be passed to optional arguments of forward",
        "column 2 as cam_label",
        "(--forward)",
    ),
    "the images alone": (
        ["--inputs", "0"],
        "the model raised this error when it was called with",
        "column 0 as x (dict of {'RGB'",
        "(--forward)",
    ),
    "no training branch": (
        FORWARD,
        "the model ran in eval mode without calling its head",
        "0 calls",
        "--training-branch",
    ),
    "other widths": (
        [*FORWARD, "--splits", "768,768,768"],
        "the splits do not sum to the width of the head",
        "768 + 768 + 768 = 2304",
        "[512, 512, 512]",
    ),
    "another head": (
        [*FORWARD, "--head", "clasifier"],
        "the model has no module named 'cl",
        "got:      'clasifier'",
        "did you mean 'classifier'",
    ),
}
"""The options; what is said, which the page explains; what was got; the remedy."""


@pytest.mark.parametrize(("options", "problem", "got", "remedy"), TRIES.values(), ids=TRIES)
def test_the_first_command_that_a_user_tries_explains_itself(
    checkout, monkeypatch, capsys, options, problem, got, remedy
):
    for command in commands(BLOCK.findall(GUIDE)[0][1]):
        run(command, monkeypatch)
    train = "python train_net.py --config_file configs/RGBNT201/DeMo.yml SOLVER.MAX_EPOCHS 1"
    run(train, monkeypatch)
    command = ["diagnose", *TRAIN, "--checkpoint", "test/DeMobest.pth", *options]
    assert run(shlex.join(["cmiei", *command]), monkeypatch) == 3
    said = capsys.readouterr().err
    assert [part in said for part in (problem, got, remedy)] == [True] * 3
    assert problem in " ".join(GUIDE.split("## If a command stops")[1].split())


def test_outside_of_a_checkout_the_missing_module_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / FOLDER).mkdir(parents=True)
    shutil.copy(ROOT / FOLDER / "demo_audit.py", tmp_path / FOLDER)
    shutil.copy(ROOT / FOLDER / "DeMo_C_MIEI.yml", tmp_path / FOLDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    assert main(["diagnose", *TRAIN, "--checkpoint", "best.pth"]) == 3
    assert f"{AUDIT} imports config: run from the directory" in capsys.readouterr().err
    forget()
