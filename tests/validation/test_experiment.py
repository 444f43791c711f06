"""A whole validation of a tiny training: pairs, checks, records that are not made twice."""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import cmiei_hooks.validation.experiment
from cmiei_hooks.errors import CMIEIError, CMIEIWarning, ConfigError, ValidationError
from cmiei_hooks.reporting import to_html
from cmiei_hooks.validation import Experiment, in_sections, validate
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.experiment import USUAL

TRAIN = "trainings:train"
ALL = {"plain", "disabled", "inert", "method", "stopped", "random", "dropout"}
ALL |= {"relative", "strong", "strong random", "stopped random"}
ALL |= {"selfpaced", "selfpaced random", "random gated"}
ALL |= {"dropout 15 %", "dropout 30 %", "dropout 30 % until 60 %"}
ALL |= {"random one", "random 50 %", "OGM-GE 0.5"}
TWO = ["method", "stopped"]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """One thread in this process instead of spawned ones, which take seconds to start."""

    @contextmanager
    def one_thread(jobs):
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(cmiei_hooks.validation.experiment, "local_processes", one_thread)


def run(directory, train=TRAIN, seeds=(0, 1, 2), arguments=None, **kwargs):
    said = []
    arguments = {"epochs": 4, **(arguments or {})}
    kwargs = {"arms": None, "sensitivity": False, **kwargs}
    experiment = Experiment(train, arguments, {"k": 1}, seeds, **kwargs)
    report = validate(experiment, directory, progress=said.append)
    return report, said


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
    report, _ = run(tmp_path, arguments={"repeatable": False}, arms=["disabled"])
    passed = {check["name"]: check["passed"] for check in report["checks"]}
    assert not passed["disabled equals the plain run"]
    assert not passed["inert equals the plain run"]


def test_runs_that_are_there_are_not_run_again(report, directory, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in (directory / "runs").iterdir()}
    assert len(files) == (len(ALL) - 1) * 3 + 1
    again, said = run(directory, lower=["loss"])
    assert (said[0].run, said[0].arms, said[0].total) == (None, [], 0)
    assert (said[1].run, said[1].done, said[1].total) == (None, len(files), len(files))
    assert len(said) == 2
    assert {path: path.stat().st_mtime_ns for path in files} == files
    again["environment"] = report["environment"]
    assert again == report
    broken = directory / "runs" / "method-seed1.json"
    broken.write_text(broken.read_text()[:50])
    with pytest.warns(CMIEIWarning):
        assert run(directory, lower=["loss"])[0]["metrics"] == report["metrics"]
    assert broken.stat().st_mtime_ns != files[broken]


def names_of_runs(directory) -> set[str]:
    return {path.name for path in (directory / "runs").iterdir()}


def test_four_arms_run_if_nobody_says_otherwise(tmp_path):
    report, said = run(tmp_path, seeds=(0, 1), arguments={"steps": 2}, arms=USUAL)
    assert list(report["arms"]) == ["plain", "inert", "method", "random"] == list(USUAL)
    assert len(names_of_runs(tmp_path)) == 8
    plan, first = said[:2]
    assert (plan.run, plan.done, plan.total, plan.seeds) == (None, 0, 8, 2)
    assert math.isnan(plan.seconds)
    assert plan.arms == first.arms
    assert (first.run, first.done, first.total, first.seeds) == (None, 1, 8, 2)
    assert first.arms == ["plain", "inert", "method", "random"]
    assert [one.done for one in said] == list(range(9))
    assert first.seconds > 0 == said[-1].seconds
    assert report["sensitivity"] == []
    pairs = {(c["first"], c["second"]) for c in report["comparisons"]}
    assert pairs == {("method", "plain"), ("method", "random"), ("random", "plain")}


def test_the_arm_that_a_control_follows_runs_too(tmp_path):
    report, _ = run(tmp_path, seeds=(0, 1), arguments={"steps": 2}, arms=["strong random"])
    assert list(report["arms"]) == ["plain", "inert", "strong", "strong random"]
    names = {check["name"] for check in report["checks"]}
    assert names == {"inert equals the plain run"}
    assert ("strong", "strong random") in {(c["first"], c["second"]) for c in report["comparisons"]}


def test_one_setting_of_the_sensitivity_may_be_named(tmp_path):
    report, _ = run(tmp_path, seeds=(0, 1), arguments={"steps": 2}, arms=["method", "SIGMA 0.1"])
    assert list(report["arms"]) == ["plain", "inert", "method", "SIGMA 0.1"]
    assert {c["first"] for c in report["sensitivity"]} == {"method", "SIGMA 0.1"}


@pytest.mark.parametrize("name", ["metod", "SIGNA 0.1", "", "dropout 130 %"])
def test_an_arm_that_never_exists_is_refused_before_the_first_run(tmp_path, name, golden):
    with pytest.raises(ValidationError) as refusal:
        run(tmp_path, arms=["method", name])
    golden(refusal.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["never ending", "SIGMA 0.7", "dropout 30 % until 3 %"])
def test_an_arm_that_this_training_lacks_is_refused_after_the_first_run(tmp_path, name, golden):
    with pytest.raises(ValidationError) as refusal:
        run(tmp_path, arms=[name])
    golden(refusal.value)
    assert names_of_runs(tmp_path) == {"plain-seed0.json"}


@pytest.mark.parametrize(
    ("train", "arguments", "settings"),
    [
        (TRAIN, {"epochs": 2}, {"warmup_epochs": 2}),
        (TRAIN, {"epochs": 4}, {"warmup_epochs": 3, "first_epoch": 1, "end_epoch": 5}),
        ("trainings:asks", {"epochs": 2}, {}),
        ("trainings:in_steps", {"epochs": 1}, {}),
    ],
    ids=["told", "FIRST_EPOCH too late", "asked for", "steps"],
)
def test_what_cannot_act_is_refused_at_once(tmp_path, train, arguments, settings, golden):
    experiment = Experiment(train, arguments, settings, (0, 1))
    with pytest.raises(ValidationError) as refusal:
        validate(experiment, tmp_path)
    golden(refusal.value)
    # Where nobody tells the epochs, the plain arm does not see how long the training is.
    seen = {"plain-seed0.json"} if train == TRAIN else {"plain-seed0.json", "inert-seed0.json"}
    assert names_of_runs(tmp_path) == seen


@pytest.mark.negative_control
def test_without_the_refusal_the_method_would_train_in_vain(tmp_path, monkeypatch):
    monkeypatch.setattr(cmiei_hooks.validation.experiment, "refuse_idle", lambda *_: None)
    experiment = Experiment(TRAIN, {"epochs": 2}, {"warmup_epochs": 2}, (0, 1))
    report = validate(experiment, tmp_path)
    assert report["metrics"]["method"]["accuracy"] == report["metrics"]["plain"]["accuracy"]
    assert len(names_of_runs(tmp_path)) == 8


def test_a_control_follows_the_arm_it_is_for(report, directory):
    counts = {
        name: json.loads((directory / "runs" / f"{name}-seed0.json").read_text())["counts"]
        for name in ("method", "strong", "random", "strong-random", "selfpaced", "selfpaced-random")
    }
    assert counts["random"] == counts["method"] != counts["strong"] == counts["strong-random"]
    assert counts["selfpaced"] == counts["selfpaced-random"] != counts["method"]


def test_an_arm_of_the_users_own_runs_beside_the_others_and_is_compared(tmp_path):
    own = {"mine": "peers_of_a_user:every_first"}
    report, _ = run(tmp_path, arms=["method"], own=own, seeds=(0, 1))
    report["environment"]["command"] = "cmiei validate"
    assert [*report["arms"]] == ["plain", "inert", "method", "mine"]
    assert report["arms"]["mine"]["strategy"] == own["mine"]
    compared = {(c["first"], c["second"]) for c in report["comparisons"]}
    assert compared == {("method", "plain"), ("mine", "plain"), ("method", "mine")}
    assert "a strategy of your own" in to_html(in_sections(report))


def test_an_arm_of_the_users_own_runs_again_when_its_file_has_changed(tmp_path, monkeypatch):
    def seconds() -> dict[str, int]:
        monkeypatch.delitem(sys.modules, "a_strategy", raising=False)
        run(tmp_path / "out", arms=["method"], own={"mine": "a_strategy:make"}, seeds=(0, 1))
        files = (tmp_path / "out" / "runs").iterdir()
        return {path.name: path.stat().st_mtime_ns for path in files}

    code = tmp_path / "a_strategy.py"
    code.write_text(
        "from peers_of_a_user import every_first as first\nmake = lambda *a: first(*a)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = seconds()
    assert seconds() == before
    code.write_text(code.read_text() + "# edited\n")
    cmiei_hooks.validation.worker._sources_here.cache_clear()
    after = seconds()
    assert {name for name in after if after[name] != before[name]} == {
        "mine-seed0.json",
        "mine-seed1.json",
    }


def test_what_was_seen_in_training_is_that_of_each_arm(report):
    seen = [report["metrics"][arm]["CI_r in training"] for arm in ("inert", "method", "strong")]
    assert len(set(map(tuple, seen))) == 3


def test_other_settings_are_tried(tmp_path):
    experiment = Experiment(TRAIN, {"epochs": 3, "steps": 2}, {"k": 1}, (0, 1), arms=None)
    report = validate(experiment, tmp_path)
    tried = {c["first"] for c in report["sensitivity"]}
    assert {"method", "SIGMA 0.02", "P_MAX 0.2", "ABS_THR 0.06", "REL_THR 1.5"} <= tried
    assert {c["second"] for c in report["sensitivity"]} == {"plain"}


def test_names_that_only_begin_like_an_influence_get_a_verdict(tmp_path):
    report, _ = run(tmp_path, "trainings:cider", seeds=(0, 1), arguments={"epochs": 2}, arms=USUAL)
    assert report["better"]["CIDEr"] == 1
    assert report["better"]["CI r"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"overrides": {}, "lower": ["los"]},
        {"train": "trainings:never_sets_the_epoch"},
        {"train": "trainings:never_attaches"},
        {"train": "trainings:returns_a_word"},
        {"train": "trainings:returns_nothing"},
    ],
    ids=lambda arguments: repr(next(reversed(arguments.values()))),
)
def test_what_the_plain_runs_show_is_refused_before_the_other_arms(tmp_path, arguments, golden):
    usual = {"train": TRAIN, "overrides": {}, "settings": {}, "seeds": (0, 1)}
    with pytest.raises(ValidationError) as refusal:
        validate(Experiment(**{**usual, **arguments}), tmp_path)
    golden(refusal.value)
    assert not [path for path in tmp_path.rglob("*.json") if "plain" not in path.name]


@pytest.mark.parametrize(
    "arguments",
    [
        {"train": "trainings:breaks_at_seed_1", "overrides": {"epocs": 3}},
        {"train": "trainings:trian"},
        {"train": "trainigs:train"},
        {"settings": {"sigma": -1}},
        {"settings": {"sgima": 0.1}},
        {"settings": {"sample_level": False, "relative": True}},
    ],
    ids=lambda arguments: repr(next(reversed(arguments.values()))),
)
def test_what_can_be_known_is_refused_before_the_first_run(
    tmp_path, monkeypatch, arguments, golden
):
    monkeypatch.setattr(cmiei_hooks.validation.experiment, "RunQueue", None)
    usual = {"train": TRAIN, "overrides": {}, "settings": {}, "seeds": (0, 1)}
    with pytest.raises(CMIEIError) as refusal:
        validate(Experiment(**{**usual, **arguments}), tmp_path)
    golden(refusal.value)


@pytest.mark.negative_control
def test_an_arm_that_cannot_run_is_refused_before_the_first_run(tmp_path, monkeypatch, golden):
    def arms_of(*_):
        return [Arm("broken", settings={"k": 0})]

    monkeypatch.setattr(cmiei_hooks.validation.experiment, "arms_of", arms_of)
    monkeypatch.setattr(cmiei_hooks.validation.experiment, "RunQueue", None)
    with pytest.raises(ConfigError) as refusal:
        validate(Experiment(TRAIN, {}, {}, (0, 1), arms=None), tmp_path)
    golden(refusal.value)


def test_an_arm_is_refused_with_the_settings_of_the_function_before_it_runs(tmp_path, monkeypatch):
    def arms_of(config, *_):  # the function passes warmup_epochs 1, the default is 5
        return [Arm("broken", settings={"k": 0 if config.warmup_epochs == 1 else 1})]

    monkeypatch.setattr(cmiei_hooks.validation.experiment, "arms_of", arms_of)
    with pytest.raises(ConfigError):
        validate(Experiment(TRAIN, {"epochs": 1}, {}, (0, 1), arms=None), tmp_path)
    assert {path.name for path in tmp_path.rglob("*.json")} == {"plain-seed0.json"}


@pytest.mark.parametrize("train", ["trainings:in_steps", "trainings:asks"])
def test_a_training_that_never_calls_set_epoch_is_validated(tmp_path, train):
    report, _ = run(tmp_path, train, seeds=(0, 1), arguments={"epochs": 8}, arms=TWO)
    failed = [check["name"] for check in report["checks"] if not check["passed"]]
    assert not failed
    assert report["arms"].keys() == {"plain", "inert", *TWO}
    in_steps = train == "trainings:in_steps"
    assert (report["arms"]["stopped"]["settings"]["end_step"] is None) == (not in_steps)
    assert ("epoch" in report["epochs"]["inert"][0]) == (not in_steps)
    ratios = [epoch["C_MIEI_Ratio"] for epoch in report["epochs"]["method"]]
    assert ratios[0] == 0 < ratios[-1]
    to_html(in_sections(report | {"environment": report["environment"] | {"command": ""}}))


def test_records_stay_where_they_are_if_the_training_changes_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment("trainings:changes_directory", {}, {}, (0, 1))
    validate(experiment, "validation")
    assert len(list((tmp_path / "validation" / "runs").iterdir())) == 4 * 2
    assert {path.name for path in tmp_path.iterdir()} == {"validation"}


def test_arguments_that_json_has_no_word_for_are_written(tmp_path):
    report, _ = run(tmp_path, seeds=(0, 1), arguments={"epochs": 2, "limit": math.inf}, arms=USUAL)
    json.dumps(report, allow_nan=False)
