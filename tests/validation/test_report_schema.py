"""report.json of a validation is what its schema says: neither has a key that the other lacks."""

from __future__ import annotations

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import get_args, get_type_hints

import pytest
from helpers import ROOT
from schemas import errors, is_closed, keys, schema_of, undescribed, unused

from cmiei_hooks.cli import main
from cmiei_hooks.validation.arms import Arm

SCHEMA = schema_of("validation")


def in_this_process() -> Executor:
    return ThreadPoolExecutor(1)


RUNS = {
    "all arms": "--train trainings:train --args steps=1 --seeds 2 --full --lower loss K 1",
    "epochs that nobody tells": "--train trainings:in_steps --args epochs=4 --seeds 2",
    "a metric that is not a number": "--train trainings:not_a_number_at_seed_1 --seeds 2 K 1",
    "a strategy of one's own": "--train trainings:train --args steps=1 --seeds 2 "
    "--arms method --arm mine=peers_of_a_user:every_first K 1",
    "a check that fails": "--train trainings:train --args repeatable=False --seeds 2 K 1",
    "infinity": "--train trainings:train --args steps=1 --seeds 2 --arms method K 1 REL_THR .inf",
}

FAILING = ("a check that fails", "infinity")
"""With an infinite threshold nothing is ever substituted, which is a check that fails."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The content of the file of each kind; the runs are made once."""
    made = {}

    def content(kind: str) -> dict:
        if kind not in made:
            folder = tmp_path_factory.mktemp("validation")
            words = ["validate", "--executor", f"{__name__}:in_this_process"]
            words += ["--output", str(folder), *RUNS[kind].split()]
            with pytest.MonkeyPatch.context() as patch:
                patch.syspath_prepend(str(ROOT / "tests" / "validation"))
                assert main(words) == int(kind in FAILING)
            made[kind] = (folder / "report.json").read_text(encoding="utf-8")
        return json.loads(made[kind])

    return content


@pytest.mark.parametrize("kind", RUNS)
def test_a_report_is_what_the_schema_says(kind, written):
    assert errors(written(kind), SCHEMA) == []


@pytest.mark.negative_control
def test_a_key_that_the_schema_lacks_is_an_error_wherever_it_is(written):
    content = written("all arms")
    assert len(keys(SCHEMA)) == 8
    assert unused(content, SCHEMA) == []


@pytest.mark.negative_control
@pytest.mark.parametrize("key", ["arms", "comparisons", "sensitivity", "environment"])
def test_a_report_without_a_key_that_is_always_there_is_an_error(key, written):
    content = written("all arms")
    del content[key]
    assert errors(content, SCHEMA) == [f"{key!r} is a required property"]


def test_what_is_missing_is_what_the_schema_says(written):
    content = written("all arms")
    for one in content["comparisons"]:
        judged = content["better"][one["metric"]] != 0
        assert ("p_holm" in one) == ("verdict_holm" in one) == judged
    untold = written("epochs that nobody tells")["epochs"]
    assert {"epoch" in point for points in untold.values() for point in points} == {False}
    assert {len(points) > 1 for points in untold.values()} == {True}


def test_what_is_not_known_is_null_and_that_is_what_the_schema_allows(written):
    content = written("a metric that is not a number")
    assert None in content["metrics"]["plain"]["accuracy"]
    found = [one for one in content["comparisons"] if one["metric"] == "accuracy"]
    assert {one["verdict"] for one in found} == {"not known"}
    assert {one[key] for one in found for key in ("low", "p", "p_holm", "detectable")} == {None}
    assert written("infinity")["config"]["REL_THR"] == "inf"


def test_the_schema_knows_every_kind_of_arm():
    kind = SCHEMA["properties"]["arms"]["additionalProperties"]["properties"]["kind"]
    assert kind["enum"] == list(get_args(get_type_hints(Arm)["kind"]))


def test_objects_of_the_schema_allow_no_other_keys_and_describe_theirs():
    assert is_closed(SCHEMA)
    assert undescribed(SCHEMA) == []
