"""A whole validation of a tiny training: pairs, checks, records that are not made twice."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import cmiei_hooks.validation.experiment
from cmiei_hooks.errors import CheckpointError, ValidationError
from cmiei_hooks.validation import Experiment, validate
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.checks import sanity
from cmiei_hooks.validation.runs import Record, Run, run_all

TRAIN = "trainings:train"
ALL = {"plain", "disabled", "inert", "method", "stopped", "random", "dropout"}
ALL |= {"relative", "strong", "strong random"}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """One thread in this process instead of spawned ones, which take seconds to start."""

    @contextmanager
    def one_thread(jobs):
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(cmiei_hooks.validation.experiment, "workers", one_thread)


def run(directory, train=TRAIN, seeds=(0, 1, 2), arguments=None, **kwargs):
    done = []
    arguments = {"epochs": 4, **(arguments or {})}
    experiment = Experiment(train, arguments, {"k": 1}, seeds, sensitivity=False, **kwargs)
    report = validate(experiment, directory, progress=lambda total: done.append)
    return report, done


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("validation")


@pytest.fixture
def report(directory):
    return run(directory, lower=["loss"])[0]


def test_all_arms_run_on_all_seeds(report):
    assert report["arms"].keys() == ALL
    assert report["metrics"].keys() == ALL - {"disabled"}
    assert all(len(values) == 3 for arm in report["metrics"].values() for values in arm.values())
    json.dumps(report, allow_nan=False)


def test_differences_are_paired_by_seed(report):
    metrics = report["metrics"]
    for c in report["comparisons"]:
        pairs = zip(
            metrics[c["first"]][c["metric"]], metrics[c["second"]][c["metric"]], strict=True
        )
        differences = [a - b for a, b in pairs]
        assert c["mean"] == pytest.approx(sum(differences) / 3)
        assert c["low"] <= c["mean"] <= c["high"]
    compared = {(c["first"], c["second"]) for c in report["comparisons"]}
    assert compared >= {("method", "plain"), ("method", "random"), ("method", "dropout")}


def test_less_loss_is_better_and_influence_is_neither(report):
    assert report["better"]["accuracy"] == 1
    assert report["better"]["loss"] == -1
    assert report["better"]["CI_r in training"] == 0
    assert report["better"]["CI inequality in training"] == 0


def test_what_plain_training_does_is_what_the_inert_hook_saw(report):
    plain, inert = report["metrics"]["plain"], report["metrics"]["inert"]
    assert plain == inert
    assert max(plain["CI_r in training"]) > 0


def test_all_checks_pass(report):
    assert [check["passed"] for check in report["checks"]] == [True] * 5


@pytest.mark.negative_control
def test_a_training_that_cannot_be_repeated_fails_the_first_ones(tmp_path):
    report, _ = run(tmp_path, arguments={"repeatable": False})
    passed = {check["name"]: check["passed"] for check in report["checks"]}
    assert not passed["disabled equals the plain run"]
    assert not passed["inert equals the plain run"]


def record(**epoch: float) -> dict[int, Record]:
    figures = {"epoch": 0, "C_MIEI_Ratio": 0.0, "Hist_r": 0.5, "Hist_n": 0.5}
    epochs = [figures, {**figures, "epoch": 5, "C_MIEI_Ratio": 0.3, **epoch}]
    return {0: Record("", {"accuracy": 1.0}, epochs, [], {}, "")}


@pytest.mark.parametrize(
    ("epoch", "fails"),
    [
        ({}, []),
        ({"epoch": 4}, [0, 1]),  # acted in the warm-up, and never behind it
        ({"C_MIEI_Ratio": 0.0}, [1]),
        ({"Hist_r": 0.7}, [2]),
        ({"C_MIEI_Ratio": math.nan}, [1]),
    ],
)
def test_the_sanity_checks_see_what_they_are_for(epoch, fails):
    checks = sanity(record(**epoch), cmiei_hooks.Config(enabled=True))
    assert [i for i, check in enumerate(checks) if not check.passed] == fails


def test_runs_that_are_there_are_not_run_again(report, directory, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in (directory / "runs").iterdir()}
    assert len(files) == 9 * 3 + 1
    again, done = run(directory, lower=["loss"])
    assert len(done) == len(files)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    again["environment"] = report["environment"]
    assert again == report
    broken = directory / "runs" / "method-seed1.json"
    broken.write_text(broken.read_text()[:50])
    assert run(directory, lower=["loss"])[0]["metrics"] == report["metrics"]
    assert broken.stat().st_mtime_ns != files[broken]


@pytest.mark.parametrize("change", ["settings", "overrides", "seed", "arm", "train", "counts"])
def test_whatever_changes_a_run_changes_its_key(change):
    content = {
        "train": TRAIN,
        "overrides": {"epochs": 4},
        "settings": {"k": 1},
        "arm": Arm("method"),
        "seed": 0,
        "counts": (1, 2),
    }
    other = {
        "settings": {"k": 2},
        "overrides": {},
        "seed": 1,
        "arm": Arm("method", settings={"sigma": 0.1}),
        "train": "other:train",
        "counts": (1,),
    }
    assert Run(**content).key == Run(**content).key
    assert Run(**content).key != Run(**{**content, change: other[change]}).key


def test_what_was_done_before_a_run_broke_is_kept(tmp_path):
    runs = [Run("trainings:breaks_at_seed_1", {}, {}, Arm("plain", "plain"), s) for s in (0, 1, 2)]
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="out of coffee"):
        run_all(runs, tmp_path, pool, lambda run: None)
    assert "plain-seed0.json" in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("train", "error", "match"),
    [
        ("trainings:returns_nothing", ValidationError, "returned no metrics"),
        ("trainings:never_attaches", ValidationError, "never called attach"),
        ("trainings:trian", CheckpointError, "did you mean 'train'"),
    ],
)
def test_functions_that_cannot_be_used_are_refused(tmp_path, train, error, match):
    experiment = Experiment(train, {}, {}, (0, 1))
    with pytest.raises(error, match=match):
        validate(experiment, tmp_path)
