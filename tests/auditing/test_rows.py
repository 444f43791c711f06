"""The rows of ``samples.csv`` are made when they are read, and are a sequence all the same."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused

from cmiei_hooks import audit
from cmiei_hooks.auditing import rows as module
from cmiei_hooks.functional import select
from cmiei_hooks.reporting import to_csv

WHERE = {"head": "classifier", "splits": WIDTHS}


@pytest.fixture
def report():
    torch.manual_seed(0)
    batches = [(torch.randn(n, 6), torch.arange(n) % 7, [f"cam{i % 2}" for i in range(n)])
               for n in (16, 7)]  # fmt: skip
    return audit(Fused(), batches, **WHERE, group_by=2)


def test_a_row_says_what_the_sample_shows(report):
    means = dict.fromkeys(report.names, 0.0)
    for number, row in enumerate(report.rows):
        influence = [float(row[f"CI_{name}"]) for name in report.names]
        assert row["sample"] == number
        assert row["batch"] == int(number >= 16)
        assert row["label"] == (number - 16 * row["batch"]) % 7
        assert row["dominant"] == report.names[influence.index(max(influence))]
        chosen = select(
            torch.tensor([influence]), abs_thr=0.03, rel_thr=1.25, p_max=1.0, sample_level=True
        )
        assert row["triggered"] == int(chosen.item() >= 0)
        means = {name: means[name] + v / 23 for name, v in zip(means, influence, strict=True)}
    assert number == 22
    for name, interval in report.influence.items():
        assert means[name] == pytest.approx(interval.mean, rel=1e-6)


def test_they_are_a_sequence_whatever_is_made_at_once(report, monkeypatch):
    whole = list(report.rows)
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    rows = report.rows
    assert list(rows) == whole
    assert len(rows) == len(whole) == 23
    assert [rows[0], rows[-1], rows[22]] == [whole[0], whole[-1], whole[22]]
    for part in (slice(3, 9), slice(20, 99), slice(1, 20, 4), slice(None, None, -3), slice(9, 2)):
        assert list(rows[part]) == whole[part]
    with pytest.raises(IndexError):
        rows[23]


def test_a_row_has_what_is_predicted_without_each_modality_and_its_shapley_values(report):
    rows = list(report.rows)
    for key, values in (("without", report.accuracy_without), ("alone", report.accuracy_alone)):
        for name, interval in values.items():
            right = [row[f"{key}_{name}"] == row["label"] for row in rows]
            assert sum(right) / len(rows) == pytest.approx(interval.mean)
    for name, interval in report.shapley.items():
        mean = sum(float(row[f"shapley_{name}"]) for row in rows) / len(rows)
        assert mean == pytest.approx(interval.mean, rel=1e-6)


def test_of_more_modalities_than_have_coalitions_a_row_has_no_shapley_values():
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = torch.nn.Linear(9, 3)

        def forward(self, x):
            return self.classifier(x)

    torch.manual_seed(0)
    batches = [(torch.randn(6, 9), torch.arange(6) % 3)]
    report = audit(Wide(), batches, head="classifier", splits=[1] * 9)
    row = report.rows[0]
    assert not [key for key in row if key.startswith(("alone_", "shapley_"))]
    for name, interval in report.accuracy_without.items():
        right = [row[f"without_{name}"] == row["label"] for row in report.rows]
        assert sum(right) / 6 == pytest.approx(interval.mean)


def test_the_columns_are_those_of_the_rows_and_so_is_the_file(report, monkeypatch):
    whole = list(report.rows)
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    pieces = list(report.rows.in_columns())
    assert [len(piece["sample"]) for piece in pieces] == [5, 5, 5, 5, 3]
    for key in whole[0]:
        assert [v for piece in pieces for v in piece[key]] == [row[key] for row in whole]
    assert to_csv(report.rows) == to_csv(whole)
