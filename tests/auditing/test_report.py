"""What is written and printed."""

from __future__ import annotations

import csv
import dataclasses
import json
import os

import pytest
import torch
from helpers import WIDTHS, Fused
from media import text_of
from rich.console import Console
from torch import nn

from cmiei_hooks import audit
from cmiei_hooks.auditing.report_sections import in_sections
from cmiei_hooks.reporting import to_html, to_markdown

WHERE = {"head": "classifier", "splits": WIDTHS}

CONTRACT = {
    "schema_version",
    "head",
    "names",
    "splits",
    "drop",
    "measure",
    "n_samples",
    "influence",
    "dominance",
    "triggered",
    "shapley",
    "interactions",
    "null",
    "what_if",
    "strata",
    "environment",
    "partial",
}


def report_of(count: int = 3, **options):
    torch.manual_seed(2)
    model = Fused()
    data = [(torch.randn(10, 6), torch.randint(3, (10,)), ["a", "b"] * 5) for _ in range(count)]
    return audit(model, data, **WHERE, labels=1, group_by=2, **options)


def test_report_json(tmp_path):
    report = report_of(drop="mean", abs_thr=0.01)
    path = report.save(tmp_path / "deep" / "report")
    content = json.loads(path.read_text())
    assert path.name == "report.json"
    assert set(content) >= CONTRACT
    assert content["schema_version"] == 1
    assert content["splits"] == WIDTHS
    assert (content["head"], content["drop"], content["measure"]) == ("classifier", "mean", "kl")
    assert content["partial"] is False
    for name in "rnt":
        for figures in ("influence", "dominance", "accuracy_without", "accuracy_alone", "shapley"):
            got, expected = content[figures][name], getattr(report, figures)[name]
            assert got == {"mean": expected.mean, "low": expected.low, "high": expected.high}
            assert got["low"] <= got["mean"] <= got["high"]
        assert set(content["null"][name]) == {"influence", "mean", "low", "high", "p", "n"}
    assert content["triggered"]["mean"] == report.triggered.mean
    assert content["thresholds"] == {"ABS_THR": 0.01, "REL_THR": 1.25, "P_MAX": 0.5}
    assert [pair["pair"] for pair in content["interactions"]] == [
        ["r", "n"],
        ["r", "t"],
        ["n", "t"],
    ]
    assert [pair["pair"] for pair in content["agreement"]] == [
        ["zero", "mean"],
        ["zero", "permuted"],
        ["mean", "permuted"],
    ]
    (cell,) = [
        cell
        for cell in content["what_if"]
        if (cell["ABS_THR"], cell["REL_THR"], cell["P_MAX"]) == (0.01, 1.25, 0.5)
    ]
    assert cell["triggered"] == pytest.approx(report.triggered.mean)
    assert set(content["strata"]) == {"class", "group"}
    unequal = [stratum["inequality"] for stratum in content["strata"]["class"]]
    assert unequal == sorted(unequal, reverse=True)


def test_infinite_thresholds_are_words():
    content = report_of(abs_thr=float("inf")).to_dict()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["thresholds"]["ABS_THR"] == "inf"


def test_samples_csv_has_a_row_for_each_sample(tmp_path):
    report = report_of()
    report.save(tmp_path)
    with (tmp_path / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert [row["batch"] for row in rows] == ["0"] * 10 + ["1"] * 10 + ["2"] * 10
    assert rows[0]["group"] == "a"
    for name in "rnt":
        mean = sum(float(row[f"CI_{name}"]) for row in rows) / 30
        assert mean == pytest.approx(report.influence[name].mean, rel=1e-6)
    assert sum(row["dominant"] == "r" for row in rows) / 30 == pytest.approx(
        report.dominance["r"].mean
    )
    assert sum(int(row["triggered"]) for row in rows) / 30 == pytest.approx(report.triggered.mean)
    right = sum(row["predicted"] == row["label"] for row in rows) / 30
    assert right == pytest.approx(report.accuracy.mean)


def test_intervals_are_over_identities_if_there_are_enough():
    torch.manual_seed(0)
    model, x = Fused(nn.Linear(12, 40)), torch.randn(200, 6)
    few = audit(model, [(x, torch.arange(200) % 7)], **WHERE)
    many = audit(model, [(x, torch.arange(200) // 5)], **WHERE)
    assert (few.interval_over, many.interval_over) == ("samples", "identities")
    assert few.influence["r"].mean == many.influence["r"].mean
    assert few.influence["r"] != many.influence["r"]


def test_an_audit_in_every_medium(golden):
    """As it is measured; only what differs from machine to machine is fixed."""
    report = dataclasses.replace(report_of(), environment={"date": "2026-02-03"})
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(report.table())
    golden(captured.get())
    golden(to_markdown(in_sections(report)))
    golden(text_of(to_html(in_sections(report))))


def test_names_and_values_from_anywhere_are_safe_in_every_file(tmp_path):
    group = "=HYPERLINK(1)\x1b[31m\udcff"
    report = dataclasses.replace(
        report_of(),
        head=group,
        rows=({"sample": 0, "group": group},),
        environment={"command": group, "config": {"x": float("inf")}},
    )
    report.save(tmp_path / os.fsdecode(b"caf\xe9"))
    (directory,) = tmp_path.iterdir()
    files = {path.name: path.read_bytes().decode() for path in directory.iterdir()}
    assert "\x1b" not in "".join(files.values())
    assert files["samples.csv"].splitlines()[1] == r"0,'=HYPERLINK(1)\x1b[31m\udcff"
    assert json.loads(files["report.json"])["environment"] == {
        "command": group,
        "config": {"x": "inf"},
    }


def test_in_a_notebook_a_report_looks_as_in_its_file(tmp_path):
    report = audit(Fused(), [torch.randn(8, 6)], **WHERE)
    report.save(tmp_path)
    assert report._repr_markdown_() == (tmp_path / "report.md").read_text(encoding="utf-8")
    assert str(report) == report._repr_markdown_()  # in a terminal too it can be read
