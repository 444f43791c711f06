"""The command: it runs, resumes, writes its report, and refuses what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmiei_hooks.cli import main

TRAININGS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TRAININGS))
    monkeypatch.syspath_prepend(str(TRAININGS / "validation"))


def test_it_runs_in_processes_and_resumes(tmp_path, capsys):
    words = ["validate", "--train", "trainings:train", "--seeds", "2", "--jobs", "2"]
    words += ["--no-sensitivity", "--args", "steps=3", "--lower", "loss", "--output", str(tmp_path)]
    assert main([*words, "K", "1"]) == 0
    said = capsys.readouterr().out
    assert "inert equals the plain run" in said
    assert "against random" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["config"]["K"] == 1
    assert report["overrides"] == {"steps": 3}
    assert report["better"]["loss"] == -1
    assert report["seeds"] == [0, 1]
    assert "--lower loss" in report["environment"]["command"]
    assert "Does C-MIEI help" in (tmp_path / "report.html").read_text()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert main([*words, "K", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--task", "digits", "--npz", "a.npz"],
        ["--npz", "a.npz"],
        ["--task", "digits", "--views", "a,b"],
        ["--task", "digits", "--seeds", "1"],
        ["--task", "digits", "K"],
    ],
)
def test_a_wrong_command_line_is_refused(words):
    try:
        code = main(["validate", *words])
    except SystemExit as error:
        code = error.code
    assert code == 2


def test_a_function_that_is_not_there_is_refused(tmp_path, capsys):
    words = ["validate", "--train", "trainings:trian", "--output", str(tmp_path)]
    assert main(words) == 3
    assert "did you mean 'train'" in capsys.readouterr().err
