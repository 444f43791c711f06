"""A whole validation of a tiny training: pairs, checks, records that are not made twice."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trainings

import cmiei_hooks.validation.experiment
from cmiei_hooks.errors import CheckpointError, ValidationError
from cmiei_hooks.validation import Experiment, validate
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.sanity import sanity
from cmiei_hooks.validation.worker import Record, Run, run_all, sources_of

TRAIN = "trainings:train"
ALL = {"plain", "disabled", "inert", "method", "stopped", "random", "dropout"}
ALL |= {"relative", "strong", "strong random", "stopped random"}


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
    assert [check["passed"] for check in report["checks"]] == [True] * 6


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
        ({"Hist_r": 0.7}, [3]),
        ({"C_MIEI_Ratio": math.nan}, [1]),
    ],
)
def test_the_sanity_checks_see_what_they_are_for(epoch, fails):
    checks = sanity(record(**epoch), cmiei_hooks.Config(enabled=True))
    assert [i for i, check in enumerate(checks) if not check.passed] == fails


def test_runs_that_are_there_are_not_run_again(report, directory, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in (directory / "runs").iterdir()}
    assert len(files) == 10 * 3 + 1
    again, done = run(directory, lower=["loss"])
    assert len(done) == len(files)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    again["environment"] = report["environment"]
    assert again == report
    broken = directory / "runs" / "method-seed1.json"
    broken.write_text(broken.read_text()[:50])
    assert run(directory, lower=["loss"])[0]["metrics"] == report["metrics"]
    assert broken.stat().st_mtime_ns != files[broken]


def test_one_seed_that_never_acts_is_seen():
    both = {**record(), 1: record(C_MIEI_Ratio=0.0)[0]}
    checks = sanity(both, cmiei_hooks.Config(enabled=True))
    assert [check.passed for check in checks] == [True, False, True, True]


def test_epochs_that_do_not_begin_at_first_epoch_are_seen():
    checks = sanity(record(), cmiei_hooks.Config(enabled=True, first_epoch=1, warmup_epochs=2))
    assert not {check.name: check.passed for check in checks}["epochs begin at FIRST_EPOCH"]


def test_a_control_follows_the_arm_it_is_for(report, directory):
    counts = {
        name: json.loads((directory / "runs" / f"{name}-seed0.json").read_text())["counts"]
        for name in ("method", "strong", "random", "strong-random")
    }
    assert counts["random"] == counts["method"] != counts["strong"] == counts["strong-random"]


def test_what_was_seen_in_training_is_that_of_each_arm(report):
    seen = [report["metrics"][arm]["CI_r in training"] for arm in ("inert", "method", "strong")]
    assert len(set(map(tuple, seen))) == 3


def test_other_settings_are_tried(tmp_path):
    experiment = Experiment(TRAIN, {"epochs": 3, "steps": 2}, {"k": 1}, (0, 1))
    report = validate(experiment, tmp_path)
    tried = {c["first"] for c in report["sensitivity"]}
    assert {"method", "SIGMA 0.02", "P_MAX 0.2", "ABS_THR 0.06", "REL_THR 1.5"} <= tried
    assert {c["second"] for c in report["sensitivity"]} == {"plain"}


def test_names_that_only_begin_like_an_influence_are_judged(tmp_path):
    report, _ = run(tmp_path, "trainings:cider", seeds=(0, 1), arguments={"epochs": 2})
    assert report["better"]["CIDEr"] == 1
    assert report["better"]["CI r"] == 0


def test_an_edited_training_is_known_by_its_file(tmp_path, monkeypatch):
    source = Path(trainings.__file__).read_text()
    edited = tmp_path / "edited_training.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    edited.write_text(source)
    before = sources_of("edited_training:train", {"npz": str(edited), "epochs": 3})
    edited.write_text(source + "# changed\n")
    after = sources_of("edited_training:train", {"npz": str(edited), "epochs": 3})
    assert len(before) == len(after) == 2
    assert all(a != b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "change",
    ["settings", "overrides", "seed", "arm", "train", "counts", "sources", "threads", "versions"],
)
def test_whatever_changes_a_run_changes_its_key(change, monkeypatch):
    content = {
        "train": TRAIN,
        "overrides": {"epochs": 4},
        "settings": {"k": 1},
        "arm": Arm("method"),
        "seed": 0,
        "counts": (1, 2),
        "sources": ("a",),
        "threads": 1,
    }
    other = {
        "settings": {"k": 2},
        "overrides": {},
        "seed": 1,
        "arm": Arm("method", settings={"sigma": 0.1}),
        "train": "other:train",
        "counts": (1,),
        "sources": ("b",),
        "threads": 2,
    }
    key = Run(**content).key
    assert Run(**content).key == key
    if change == "versions":
        monkeypatch.setattr("cmiei_hooks.validation.worker.versions", lambda: {"torch": "0"})
        assert Run(**content).key != key
    else:
        assert Run(**{**content, change: other[change]}).key != key


def test_what_was_done_before_a_run_broke_is_kept(tmp_path):
    runs = [Run("trainings:breaks_at_seed_1", {}, {}, Arm("plain", "plain"), s) for s in (1, 0, 2)]
    with (
        pytest.raises(ValidationError, match="'plain' with seed 1") as refusal,
        ThreadPoolExecutor(1) as pool,
    ):
        run_all(runs, tmp_path, pool, lambda run: None)
    assert "out of coffee" in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"plain-seed0.json", "plain-seed2.json"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"overrides": {"epocs": 3}, "train": "trainings:cider"}, "cannot be called"),
        ({"lower": ["los"]}, "did you mean 'loss'"),
        ({"train": "trainings:never_sets_the_epoch"}, "never called set_epoch"),
        ({"train": "trainings:returns_a_word"}, "'note': None"),
    ],
)
def test_what_can_be_known_early_is_refused_before_the_other_arms(tmp_path, arguments, match):
    usual = {"train": TRAIN, "overrides": {}, "settings": {}, "seeds": (0, 1)}
    with pytest.raises(ValidationError, match=match):
        validate(Experiment(**{**usual, **arguments}), tmp_path)
    assert not [path for path in tmp_path.rglob("*.json") if "plain" not in path.name]


def test_arguments_that_json_has_no_word_for_are_written(tmp_path):
    report, _ = run(tmp_path, seeds=(0, 1), arguments={"epochs": 2, "limit": math.inf})
    json.dumps(report, allow_nan=False)


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
