"""What the records show, put together by hand."""

from __future__ import annotations

import json
import math

import pytest

import cmiei_hooks
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.intervals import holm
from cmiei_hooks.validation.summary import plain_values, summary
from cmiei_hooks.validation.worker import Record

CONFIG = cmiei_hooks.Config(enabled=True, warmup_epochs=0)
ARMS = [Arm("plain", "plain"), Arm("disabled", "disabled"), Arm("inert"), Arm("method")]


def record(accuracy: float, loss: float, ci=(0.3, 0.1), epochs: int = 2, **seen: float) -> Record:
    shares = {"C_MIEI_Ratio": 0.2, "CI_a": ci[0], "CI_b": ci[1], "Hist_a": 1.0, "Hist_b": 0.0}
    return Record(
        "",
        {"accuracy": accuracy, "loss": loss, "CI a": ci[0]},
        [{"epoch": e, "step": e, **shares, **seen} for e in range(epochs)],
        [],
        {},
        "digest",
        10.0 + accuracy,
    )


@pytest.fixture
def found():
    records = {
        "plain": {0: record(0.5, 1.0), 1: record(0.6, 2.0)},
        "disabled": {0: record(0.5, 1.0)},
        "inert": {0: record(0.5, 1.0), 1: record(0.6, 2.0)},
        "method": {0: record(0.7, 0.5, (0.2, 0.2), 3), 1: record(0.9, math.nan, (0.3, 0.3))},
    }
    sensitivity = [Arm("K 1", settings={"k": 1})]
    records["K 1"] = records["method"]
    return summary(records, [0, 1], CONFIG, [*ARMS, *sensitivity], sensitivity, ["loss"])


def difference(found, metric, key="comparisons", first="method"):
    return next(c for c in found[key] if (c["first"], c["metric"]) == (first, metric))


def test_it_can_be_written(found):
    json.dumps(found, allow_nan=False)


def test_differences_are_those_of_the_pairs(found):
    c = difference(found, "accuracy")
    assert (c["mean"], c["n"], c["verdict"]) == (pytest.approx(0.25), 2, "no difference seen")
    loss = difference(found, "loss")
    assert (loss["mean"], loss["low"], loss["n"], loss["verdict"]) == (-0.5, None, 1, "not known")
    inequality = difference(found, "CI inequality in training")
    assert inequality["mean"] == pytest.approx(0 - 0.2 / 0.4)
    assert difference(found, "accuracy", "sensitivity", "K 1")["mean"] == c["mean"]


def test_holm_counts_the_metrics_that_can_be_better_or_worse_of_all_pairs():
    means = {"plain": 0.5, "method": 0.6, "random": 0.59}
    records = {
        arm: {seed: record(mean + 0.001 * seed * (arm == "method"), 1.0) for seed in range(3)}
        for arm, mean in means.items()
    }
    records["inert"] = records["plain"]
    arms = [ARMS[0], ARMS[2], ARMS[3], Arm("random", "random", follows="method")]
    found = summary(records, [0, 1, 2], CONFIG, arms, [], [])
    judged = [c for c in found["comparisons"] if "p_holm" in c and c["p"] is not None]
    assert {c["metric"] for c in judged} == {"accuracy", "loss"}
    p_values = [c["p"] for c in judged]
    assert [c["p_holm"] for c in judged] == pytest.approx(holm(p_values))
    assert all(c["p_holm"] >= c["p"] for c in judged)
    assert not any("p_holm" in c for c in found["comparisons"] if c["metric"].startswith("CI"))


def test_a_difference_that_holm_takes_away_keeps_its_plain_verdict():
    rows = [(0.50, 0.512), (0.50, 0.517), (0.50, 0.508)]
    records = {
        "plain": {seed: record(a, 0.0) for seed, (a, _) in enumerate(rows)},
        "method": {seed: record(b, 0.01 * seed) for seed, (_, b) in enumerate(rows)},
        "random": {seed: record(a, 0.0) for seed, (a, _) in enumerate(rows)},
    }
    records["inert"] = records["plain"]
    arms = [ARMS[0], ARMS[2], ARMS[3], Arm("random", "random", follows="method")]
    found = summary(records, [0, 1, 2], CONFIG, arms, [], [])
    c = difference(found, "accuracy")
    assert (c["verdict"], c["verdict_holm"]) == ("better", "no difference seen")
    assert c["p"] < 0.05 < c["p_holm"]


@pytest.mark.parametrize("names", [["plain", "inert"], ["plain", "inert", "random"]])
def test_without_the_method_there_is_a_report_all_the_same(names):
    arms = [arm for arm in [*ARMS, Arm("random", "random")] if arm.name in names]
    records = {name: {0: record(0.5, 1.0), 1: record(0.6, 1.0)} for name in names}
    found = summary(records, [0, 1], CONFIG, arms, [], [])
    assert [check["name"] for check in found["checks"]] == ["inert equals the plain run"]
    assert found["sensitivity"] == []


def test_which_way_a_metric_is_better(found):
    better = found["better"]
    assert (better["accuracy"], better["loss"], better["CI a"]) == (1, -1, 0)
    assert {sign for name, sign in better.items() if "in training" in name} == {0}


def test_curves_are_means_as_long_as_the_shortest(found):
    assert [e["epoch"] for e in found["epochs"]["method"]] == [0, 1]
    assert found["epochs"]["method"][0]["CI_a"] == pytest.approx(0.25)
    assert found["epochs"].keys() == {"inert", "method", "K 1"}


def test_the_checks_have_the_keys_of_the_report(found):
    assert {tuple(check) for check in found["checks"]} == {("name", "passed", "seen")}
    assert found["checks"][0]["passed"]


def test_arms_are_listed_with_their_mean_time(found):
    assert found["arms"]["K 1"] == {
        "kind": "attached",
        "settings": {"k": 1},
        "strategy": "",
        "seconds": 10.8,
    }
    assert found["metrics"].keys() == {"plain", "inert", "method", "K 1"}


def test_what_json_cannot_hold_is_text():
    values = {"epochs": 3, "limit": math.inf, "path": cmiei_hooks, "views": ["a"]}
    plain = plain_values(values)
    assert plain == {"epochs": 3, "limit": "inf", "path": str(cmiei_hooks), "views": ["a"]}
