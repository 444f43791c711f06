"""The examples without a framework, run as their first lines say; and that none is forgotten."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from warm_python import WarmPython

EXAMPLES = ROOT / "examples"
ENDED = re.compile(r"ended after (\d+) steps .* (\d+) of (\d+) measured samples substituted")
TRAININGS = {
    "plain_loop.py": "head classifier | splits audio:8 video:6",
    "chain_head.py": "head norm -> hidden -> torch.nn.functional.gelu -> classifier",
    "decision_fusion.py": "head mean(audio_classifier, video_classifier)",
}
"""Scripts that attach, and what the first line of the log says of the head."""
OTHERS = {"audit_and_compare.py", "unedited_script.py"}
ENV = {"PYTHONPATH": str(ROOT)}


def run(python: WarmPython, words: list[str | Path], output: Path) -> str:
    done = python.run([*words, "--output", output], env=ENV, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("script", "attached"), TRAININGS.items(), ids=TRAININGS)
def test_a_training_measures_and_then_acts(python, tmp_path, script, attached):
    printed = run(python, [EXAMPLES / script], tmp_path)
    assert attached in printed
    steps, substituted, measured = map(int, ENDED.search(printed).groups())
    assert steps == 32
    assert 0 < substituted < measured


def test_both_models_are_audited_and_compared(python, tmp_path):
    printed = run(python, [EXAMPLES / "audit_and_compare.py"], tmp_path)
    assert "equalised, compared with plain" in printed
    reports = sorted(path.parent.name for path in tmp_path.glob("*/report.html"))
    assert reports == ["comparison", "equalised", "plain"]


def test_the_unedited_script_is_observed_and_trains_the_same_model(python, tmp_path):
    script = EXAMPLES / "unedited_script.py"
    command = re.search(r"^    cmiei (.*)$", script.read_text(encoding="utf-8"), re.M)[1]
    assert run(python, [script], tmp_path / "alone") == ""
    printed = run(python, ["-m", "cmiei_hooks", *shlex.split(command)], tmp_path / "observed")
    assert "0 of 352 measured samples substituted" in printed
    alone, observed = (
        torch.load(tmp_path / name / "weights.pt", weights_only=True)
        for name in ("alone", "observed")
    )
    assert all(torch.equal(alone[key], observed[key]) for key in alone)


def test_every_example_is_run_and_listed():
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    frameworks = {name for name in files if name.endswith("_training.py")}  # test_resumed.py
    assert files == {*TRAININGS, *OTHERS, *frameworks, "two_views.py", "report.ipynb"}
    listed = re.findall(r"\]\((\w+\.\w+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert set(listed) == files
