"""The command: it runs, resumes, writes its report, and refuses what contradicts itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cmiei_hooks.cli import main

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.syspath_prepend(str(TESTS / "validation"))


@pytest.mark.slow
def test_it_runs_in_processes_from_the_working_directory_and_resumes(tmp_path, monkeypatch, capsys):
    shutil.copy(TESTS / "validation" / "trainings.py", tmp_path / "training_from_here.py")
    monkeypatch.chdir(tmp_path)
    words = ["validate", "--train", "training_from_here:train", "--seeds", "2", "--jobs", "2"]
    words += ["--no-sensitivity", "--args", "steps=3", "--lower", "loss", "--output", "out"]
    assert main([*words, "K", "1"]) == 0
    said = capsys.readouterr().out
    assert "inert equals the plain run" in said
    assert "│ mean difference " in said
    report = json.loads(Path("out/report.json").read_text())
    assert report["config"]["K"] == 1
    assert report["overrides"] == {"steps": 3}
    assert report["better"]["loss"] == -1
    assert report["seeds"] == [0, 1]
    assert "--lower loss" in report["environment"]["command"]
    assert "Does C-MIEI help" in Path("out/report.html").read_text()
    files = {path: path.stat().st_mtime_ns for path in Path("out/runs").iterdir()}
    assert main([*words, "K", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_views_in_a_file_are_a_training_of_the_package(tmp_path, capsys, golden, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["validate", "--npz", "no.npz", "--views", "a,b", "--seeds", "2", "--jobs", "1"]
    assert main([*words, "--output", "out"]) == 3
    golden(capsys.readouterr().err)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--task", "digits"],
        ["--train", "a:b", "--npz", "a.npz", "--views", "a,b"],
        ["--npz", "a.npz"],
        ["--train", "a:b", "--views", "a,b"],
        ["--train", "a:b", "--seeds", "1"],
        ["--train", "a:b", "--jobs", "0"],
        ["--train", "a:b", "K"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused(words, capsys, golden):
    assert main(["validate", *words]) == 2
    golden(capsys.readouterr().err)


def test_a_function_that_is_not_there_is_refused(tmp_path, capsys, golden):
    words = ["validate", "--train", "trainings:trian", "--output", str(tmp_path)]
    assert main(words) == 3
    golden(capsys.readouterr().err)


def test_a_setting_that_is_out_of_range_is_refused(tmp_path, capsys, golden):
    words = ["validate", "--train", "trainings:train", "--output", str(tmp_path), "SIGMA", "-1"]
    assert main(words) == 3
    golden(capsys.readouterr().err)
