"""report.json of a comparison is what its schema says: neither has a key that the other lacks."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from audits import audited, batches
from schemas import errors, is_closed, keys, schema_of, undescribed, unused

from cmiei_hooks import compare
from cmiei_hooks.comparing import ComparisonReport
from cmiei_hooks.comparing.results import METRICS

SCHEMA = schema_of("comparison")
pytestmark = pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # the notes


def unlabelled(seed: int):
    return audited(seed, [x for x, _ in batches()])


def of_identities(seed: int):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    return audited(seed, [(x, torch.arange(40))])


def one_not_finite(seed: int):
    data = batches()
    data[0][0][3] = math.nan
    return audited(seed, data)


def from_the_command_line() -> ComparisonReport:
    """The command line adds the command."""
    report = compare(audited(0), audited(1))
    return dataclasses.replace(report, environment={"command": "x", **report.environment})


REPORTS = {
    "from the command line": from_the_command_line,
    "of three": lambda: compare(audited(0), audited(1), audited(2)),
    "of groups": lambda: compare([audited(0), audited(1)], [audited(2), audited(3)]),
    "of one with itself": lambda: compare(audited(0), audited(0)),
    "of groups that differ by the same": lambda: compare([audited(0)] * 2, [audited(1)] * 2),
    "without labels": lambda: compare(unlabelled(0), unlabelled(1)),
    "of identities": lambda: compare(of_identities(0), of_identities(1)),
    "with a sample that is not finite": lambda: compare(one_not_finite(0), one_not_finite(1)),
    "of one sample": lambda: compare(*(audited(s, batches(1)) for s in (0, 1))),
    "by another measure": lambda: compare(*(audited(s, measure="squared") for s in (0, 1))),
}


def written(kind: str, folder) -> dict:
    """The content of the file."""
    return json.loads(REPORTS[kind]().save(folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_is_what_the_schema_says(kind, tmp_path):
    assert errors(written(kind, tmp_path), SCHEMA) == []


@pytest.mark.negative_control
def test_a_key_that_the_schema_lacks_is_an_error_wherever_it_is(tmp_path):
    content = written("from the command line", tmp_path)
    assert len(keys(SCHEMA)) == 5
    assert unused(content, SCHEMA) == []


@pytest.mark.negative_control
@pytest.mark.parametrize("key", ["reference", "interval", "comparisons", "left_out"])
def test_a_report_without_a_key_that_is_always_there_is_an_error(key, tmp_path):
    content = written("without labels", tmp_path)
    del content[key]
    assert errors(content, SCHEMA) == [f"{key!r} is a required property"]


@pytest.mark.negative_control
@pytest.mark.parametrize(
    ("key", "value"), [("metric", "rank1"), ("verdict", "maybe"), ("n", None), ("p", "inf")]
)
def test_a_line_with_another_kind_of_value_is_an_error(key, value, tmp_path):
    content = written("of three", tmp_path)
    content["comparisons"][1]["lines"][-1][key] = value
    assert len(errors(content, SCHEMA)) == 1


def test_what_is_not_known_is_null_and_that_is_what_the_schema_allows(tmp_path):
    content = written("of groups that differ by the same", tmp_path)
    lines = [line for one in content["comparisons"] for line in one["lines"]]
    unknown = [line for line in lines if line["verdict"] == "not known"]
    assert unknown
    assert {line[key] for line in unknown for key in ("low", "high", "p", "p_holm")} == {None}


def test_the_schema_knows_every_metric_that_is_compared():
    line = SCHEMA["properties"]["comparisons"]["items"]["properties"]["lines"]["items"]
    assert line["properties"]["metric"]["enum"] == list(METRICS)


def test_objects_of_the_schema_allow_no_other_keys_and_describe_theirs():
    assert is_closed(SCHEMA)
    assert undescribed(SCHEMA) == []
