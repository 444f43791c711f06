"""The files that a comparison is saved to, and its plain form."""

from __future__ import annotations

import json

import rich
from audits import audited
from sample_comparison import sample, unknown

from cmiei_hooks import compare
from cmiei_hooks.comparing import Comparison, ComparisonReport


def test_it_is_saved_as_json_markdown_and_html(tmp_path):
    report = compare(audited(0), audited(1))
    assert isinstance(report, ComparisonReport)
    path = report.save(tmp_path / "new" / "folder")
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    content = json.loads(path.read_text())
    assert content == report.to_dict()
    assert content["schema_version"] == 1
    assert content["interval"] == {"level": 0.95, "method": "BCa bootstrap", "over": "samples"}
    assert content["runs"] == {"0": ["runs/0.pth"], "1": ["runs/1.pth"]}
    assert content["environment"].keys() == {"date", "versions", "git", "seed"}
    assert "1, compared with 0" in (path.parent / "report.html").read_text()


def test_the_plain_form_of_a_line():
    (one,) = sample().comparisons
    lines = {(x["metric"], x["modality"]): x for x in sample().to_dict()["comparisons"][0]["lines"]}
    assert len(lines) == len(one.lines)
    found = lines["accuracy_without", "n"]
    assert (found["verdict"], found["verdict_holm"]) == ("better", "no difference seen")
    assert found["difference"] == found["value"] - found["reference"]
    assert lines["accuracy_without", "r"]["verdict_holm"] == "better"
    assert lines["accuracy", None]["verdict_holm"] == "no difference seen"


def test_what_is_not_known_is_null():
    (one,) = sample().comparisons
    report = sample(comparisons=(Comparison("a", (unknown(one.lines[0]), *one.lines[1:])),))
    found = json.loads(json.dumps(report.to_dict()))["comparisons"][0]["lines"][0]
    assert [found[key] for key in ("low", "high", "p", "p_holm")] == [None] * 4
    assert (found["verdict"], found["verdict_holm"]) == ("not known", "not known")


def test_printed_and_in_a_notebook_it_looks_as_in_the_file(tmp_path):
    sample().save(tmp_path)
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert str(sample()) == sample()._repr_markdown_() == written


def test_the_table_can_be_printed(capsys):
    rich.print(sample().table())
    assert "equalised, compared with plain" in capsys.readouterr().out
