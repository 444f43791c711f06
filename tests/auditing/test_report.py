"""What is written and printed."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from helpers import WIDTHS, Fused
from rich.console import Console

from cmiei_hooks import audit

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
        assert set(content["null"][name]) == {"mean", "low", "high", "p", "n"}
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


def test_the_pages_hold_the_figures(tmp_path):
    report = report_of()
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    text = (tmp_path / "report.md").read_text()
    for figure in (*report.influence.values(), *report.shapley.values()):
        assert f"{figure.mean:.4f}" in page
        assert f"{figure.mean:.4f}" in text


def test_intervals_are_over_identities_if_there_are_enough():
    torch.manual_seed(0)
    model, x = Fused(), torch.randn(200, 6)
    few = audit(model, [(x, torch.arange(200) % 7)], **WHERE)
    many = audit(model, [(x, torch.arange(200) // 5)], **WHERE)
    assert (few.interval_over, many.interval_over) == ("samples", "identities")
    assert few.influence["r"].mean == many.influence["r"].mean
    assert few.influence["r"] != many.influence["r"]


GOLDEN = """\
Modality influence at 'classifier', 30 samples
┏━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━┳━━━━━━━┳━━━━━━━━━━┓
┃ modality ┃ CI (nats) ┃             95 % ┃ chance ┃    p ┃  Hist ┃     95 % ┃
┡━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━╇━━━━━━━╇━━━━━━━━━━┩
│ r        │    0.0168 │ 0.0119 to 0.0231 │ 0.0157 │ 0.65 │ 43.3% │ 27 to 60 │
│ n        │    0.0141 │ 0.0081 to 0.0218 │ 0.0101 │ 0.20 │ 16.7% │  3 to 30 │
│ t        │    0.0138 │ 0.0108 to 0.0168 │ 0.0187 │ 0.90 │ 40.0% │ 23 to 57 │
└──────────┴───────────┴──────────────────┴────────┴──────┴───────┴──────────┘
accuracy 20.00% (6.7 to 33.3), triggered 23.3% (10 to 40), drop zero;
intervals over samples
What each modality is worth
┏━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┓
┃ modality ┃ width ┃ Shapley ┃ of accuracy ┃ accuracy without it ┃  alone ┃
┡━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━┩
│ r        │     4 │  0.0223 │        3.3% │              16.67% │  0.00% │
│ n        │     3 │  0.0184 │        5.0% │              16.67% │  3.33% │
│ t        │     5 │  0.0104 │       11.7% │              10.00% │ 10.00% │
└──────────┴───────┴─────────┴─────────────┴─────────────────────┴────────┘
interactions: r with n -0.0132, r with t 0.0020, n with t 0.0046
interactions, accuracy: r with n 1.7%, r with t 1.7%, n with t -1.7%
same dominant modality by stand-in: zero and mean 60.0%, zero and permuted
43.3%, mean and permuted 53.3%
Samples triggered, if the thresholds were
┏━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━┓
┃ ABS_THR ┃ REL_THR 1 ┃ REL_THR 1.25 ┃ REL_THR 1.5 ┃ REL_THR 2 ┃ REL_THR 3 ┃
┡━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━┩
│ 0.003   │    100.0% │        76.7% │       66.7% │     40.0% │     20.0% │
│ 0.01    │     73.3% │        63.3% │       60.0% │     33.3% │     16.7% │
│ 0.02    │     53.3% │        46.7% │       46.7% │     30.0% │     13.3% │
│ 0.03    │     26.7% │        23.3% │       23.3% │     20.0% │     10.0% │
│ 0.05    │     10.0% │         6.7% │        6.7% │      6.7% │      0.0% │
│ 0.1     │      0.0% │         0.0% │        0.0% │      0.0% │      0.0% │
│ 0.3     │      0.0% │         0.0% │        0.0% │      0.0% │      0.0% │
└─────────┴───────────┴──────────────┴─────────────┴───────────┴───────────┘
configured: ABS_THR 0.03, REL_THR 1.25; at most 50% are substituted
ABS_THR 0.03 and REL_THR 1.25 trigger 23.3% of the samples, within the moderate
10% to 60% (this is about how often it acts, not about whether it helps)
By class, most unequal first
┏━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━┓
┃ class ┃ samples ┃ inequality ┃   CI r ┃   CI n ┃   CI t ┃
┡━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━┩
│ 1     │       8 │      0.147 │ 0.0172 │ 0.0095 │ 0.0092 │
│ 0     │       9 │      0.095 │ 0.0174 │ 0.0194 │ 0.0124 │
│ 2     │      13 │      0.060 │ 0.0161 │ 0.0133 │ 0.0175 │
└───────┴─────────┴────────────┴────────┴────────┴────────┘
By group, most unequal first
┏━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━┓
┃ group ┃ samples ┃ inequality ┃   CI r ┃   CI n ┃   CI t ┃
┡━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━┩
│ b     │      15 │      0.107 │ 0.0162 │ 0.0125 │ 0.0100 │
│ a     │      15 │      0.024 │ 0.0174 │ 0.0157 │ 0.0176 │
└───────┴─────────┴────────────┴────────┴────────┴────────┘
"""


def test_the_golden_table():
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(report_of().table())
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert "\n".join(lines) + "\n" == GOLDEN
