"""The command: it runs, resumes, writes its report, and refuses what contradicts itself."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cmiei_hooks.cli import main
from cmiei_hooks.cli.validate import default_jobs, duration, shown
from cmiei_hooks.validation import Progress
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.run_queue import RunQueue
from cmiei_hooks.validation.worker import Run

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.syspath_prepend(str(TESTS / "validation"))


@pytest.mark.slow
def test_it_runs_in_processes_from_the_working_directory_and_resumes(
    warm_workers, tmp_path, monkeypatch, capsys
):
    shutil.copy(TESTS / "validation" / "trainings.py", tmp_path / "training_from_here.py")
    monkeypatch.chdir(tmp_path)
    words = ["validate", "--train", "training_from_here:train", "--seeds", "2", "--jobs", "2"]
    words += ["--args", "steps=3", "--lower", "loss", "--output", "out"]
    assert main([*words, "K", "1"]) == 0
    said = capsys.readouterr().out
    assert "inert equals the plain run" in said
    assert "against plain" in said
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


def in_this_process() -> Executor:
    return ThreadPoolExecutor(1)


def test_it_says_what_lies_ahead_and_how_far_it_is(tmp_path, capsys):
    words = ["validate", "--train", "trainings:train", "--args", "steps=2", "--seeds", "2"]
    words += ["--executor", f"{__name__}:in_this_process", "--output", str(tmp_path)]
    assert main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    plan = "8 runs (plain, inert, method, random; 2 seeds), recorded in "
    plan += f"{tmp_path}/; the first run shows how long all take"
    assert lines[0] == plan
    assert re.fullmatch(r"8 runs, about \d+ s at the speed of the first", lines[1])
    left = r"\d/8, (plain|inert|method|random), seed [01], (\d+ s left|all done)"
    assert all(re.fullmatch(left, line) for line in lines[2:])
    assert [line[0] for line in lines[2:]] == list("2345678")
    assert lines[-1].endswith("all done")
    assert main(words) == 0
    assert capsys.readouterr().err.splitlines() == [plan, "8 runs, all recorded"]
    assert {"report.json", "report.html", "report.md"} <= {path.name for path in tmp_path.iterdir()}


def test_the_plan_is_there_before_the_first_run(tmp_path, monkeypatch):
    """Also where stderr is a file, which holds back what is not flushed."""
    log = (tmp_path / "log").open("w", encoding="utf-8")  # not flushed by a new line
    monkeypatch.setattr(sys, "stderr", log)
    words = ["validate", "--train", "trainings:train", "--seeds", "3", "--output", "there"]
    words += ["--executor", f"{__name__}:in_this_process"]
    monkeypatch.chdir(tmp_path)
    seen = []

    def first_run(queue, wanted):
        seen.append((tmp_path / "log").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(RunQueue, "do", first_run)
    assert main([*words, "--arms", "stopped random,disabled,dropout 7 %"]) == 130
    arms = "plain, disabled, inert, stopped, stopped random, dropout 7 %"
    assert seen.pop().splitlines() == [
        f"16 runs ({arms}; 3 seeds), recorded in there/; the first run shows how long all take"
    ]
    assert main([*words, "--full"]) == 130
    assert seen.pop().splitlines()[-1] == (
        "all arms, 3 seeds, recorded in there/; the first run shows how long all take"
    )


def test_arms_that_only_the_first_run_shows_are_named_after_it():
    console = Console(file=io.StringIO(), width=100)
    with shown(console, "out/") as show:
        show(Progress([], 2, 0, 0, None, math.nan))
        show(Progress(["plain", "inert"], 2, 1, 4, None, 280))
    assert console.file.getvalue().splitlines()[1:] == [
        "4 runs (plain, inert; 2 seeds), about 4 min 40 s at the speed of the first"
    ]


def test_in_a_terminal_there_is_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with shown(console, "out/") as show:
        show(Progress(["plain", "inert"], 2, 0, 4, None, math.nan))
        show(Progress(["plain", "inert"], 2, 1, 4, None, 280))
        show(Progress(["plain", "inert"], 2, 2, 4, Run("a:b", {}, {}, Arm("inert"), 1), 40))
    said = console.file.getvalue()
    assert "4 runs (plain, inert; 2 seeds), recorded in out/; " in said
    assert "4 runs, about 4 min 40 s at the speed of the first" in said
    assert "2/4" in said
    assert "inert, seed 1, 40 s left" in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.2, "1 s"), (59.5, "1 min 0 s"), (280, "4 min 40 s"), (7384, "2 h 3 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_name_that_no_arm_has_is_refused(tmp_path, capsys, golden):
    words = ["validate", "--train", "trainings:train", "--output", str(tmp_path)]
    assert main([*words, "--arms", "method,stoped"]) == 3
    golden(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "arms", "sensitivity"),
    [
        ([], ("plain", "inert", "method", "random"), True),
        (["--full"], None, True),
        (["--full", "--no-sensitivity"], None, False),
        (["--arms", "method, stopped random"], ["method", "stopped random"], True),
    ],
    ids=["usual", "full", "without sensitivity", "named"],
)
def test_which_arms_run(words, arms, sensitivity, monkeypatch, tmp_path):
    def stop(experiment, *_):
        assert (experiment.arms, experiment.sensitivity) == (arms, sensitivity)
        raise KeyboardInterrupt

    monkeypatch.setattr("cmiei_hooks.cli.validate.validate", stop)
    assert main(["validate", "--train", "a:b", "--output", str(tmp_path), *words]) == 130


@pytest.mark.parametrize(("gpus", "jobs"), [(3, 3), (0, 1)])
def test_without_jobs_there_is_one_for_each_gpu_or_core(gpus, jobs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert default_jobs() == jobs


def test_views_in_a_file_are_a_training_of_the_package(tmp_path, capsys, golden, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["validate", "--npz", "no.npz", "--views", "a,b", "--seeds", "2"]
    words += ["--executor", f"{__name__}:in_this_process"]
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
        ["--train", "a:b", "--full", "--arms", "method"],
        ["--train", "a:b", "--jobs", "2", "--executor", "a:b"],
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


def test_an_arm_of_ones_own_is_named_beside_the_others(monkeypatch, tmp_path):
    def stop(experiment, *_):
        assert experiment.own == {"mine": "a:make", "drop first": "b.c:DropFirst"}
        raise KeyboardInterrupt

    monkeypatch.setattr("cmiei_hooks.cli.validate.validate", stop)
    words = ["validate", "--train", "a:b", "--output", str(tmp_path)]
    assert main([*words, "--arm", "mine=a:make", "--arm", "drop first=b.c:DropFirst"]) == 130


@pytest.mark.parametrize("arm", ["a:make", "mine=make", "=a:make", "mine=a:"])
def test_an_arm_of_ones_own_has_a_name_and_a_function(arm, capsys, golden):
    assert main(["validate", "--train", "a:b", "--arm", arm]) == 2
    golden(capsys.readouterr().err)
