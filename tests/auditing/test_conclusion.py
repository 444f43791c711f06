"""The outcome in a few sentences: samples without a dominant modality are not anybody's."""

from __future__ import annotations

import dataclasses
import io
import json
import re

import pytest
import torch
from helpers import WIDTHS, Fused
from rich.console import Console
from sample_audit import around, sample
from torch import Tensor, nn

from cmiei_hooks import AuditReport, audit
from cmiei_hooks.auditing import Interval, violations
from cmiei_hooks.auditing.conclusion import cards, conclusion
from cmiei_hooks.auditing.results import Retrieval

WHERE = {"head": "classifier", "splits": WIDTHS}


class Gated(nn.Linear):
    """Looks at its input only where the first feature is positive, or never."""

    shut = False

    def forward(self, x: Tensor) -> Tensor:
        open_ = (x[:, :1] > 0) & (not self.shut)
        return torch.where(open_, super().forward(x), torch.arange(7.0))


def report_of(*, shut: bool) -> AuditReport:
    torch.manual_seed(0)
    model = Fused(Gated(12, 7))
    model.classifier.shut = shut
    report = audit(model, [torch.randn(40, 6)], **WHERE)
    return dataclasses.replace(report, environment={})


def shown(report: AuditReport) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table())
    return console.file.getvalue()


def test_all_shares_with_that_of_none_make_one():
    report = report_of(shut=False)
    total = sum(share.mean for share in report.dominance.values()) + report.no_influence.mean
    assert 0.2 < report.no_influence.mean < 0.8
    assert total == pytest.approx(1)
    assert report.to_dict()["no_influence"] == report.no_influence.to_dict()


@pytest.mark.parametrize("shut", [False, True])
def test_every_form_of_the_report_shows_the_share_of_none(tmp_path, golden, shut):
    report = report_of(shut=shut)
    report.save(tmp_path)
    share = f"{report.no_influence.mean:.1%}"
    for text in (
        shown(report),
        (tmp_path / "report.md").read_text(),
        (tmp_path / "report.html").read_text(),
    ):
        assert "(none)" in text
        assert share in text
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["no_influence"]["mean"] == report.no_influence.mean
    golden("\n".join(shown(report).split("Without each")[0].splitlines()[2:]))


@pytest.mark.negative_control
def test_where_every_sample_has_a_dominant_modality_nothing_is_said_of_none(tmp_path):
    torch.manual_seed(0)
    report = audit(Fused(), [torch.randn(40, 6)], **WHERE)
    assert report.no_influence.mean == 0
    report.save(tmp_path)
    assert "(none)" not in shown(report)
    assert "(none)" not in (tmp_path / "report.html").read_text()


def test_no_modality_closes_the_gate_for_samples_that_none_dominates():
    assert violations(report_of(shut=True), {}, 0.0) == []
    report = report_of(shut=False)
    largest = max(share.mean for share in report.dominance.values())
    assert violations(report, {}, largest) == []
    assert violations(report, {}, largest - 0.01)


def losing(complete: float = 0.77, **lost: float | tuple[float, float, float]) -> AuditReport:
    """A report on what is lost without each modality, in points or as mean, low and high."""
    names = tuple(lost)
    values = [v if isinstance(v, tuple) else (v, v - 0.5, v + 0.5) for v in lost.values()]
    loss = {n: Interval(*(x / 100 for x in v)) for n, v in zip(names, values, strict=True)}
    return sample(
        names,
        accuracy=around(complete),
        accuracy_loss=loss,
        accuracy_without={n: around(complete - v.mean) for n, v in loss.items()},
        dominance={n: around(2.0**-i) for i, n in enumerate(names, 1)},
    )


CASES = {
    "one": losing(video=29.0, audio=0.3),
    "one and some": losing(video=29.0, text=8.0, audio=0.3, depth=-0.4),
    "two": losing(video=12.0, text=9.0, audio=3.0),
    "all": losing(0.98, r=4.2, n=3.1, t=2.2),
    "none": losing(r=0.4, n=0.3, t=-0.2),
    "not one that falls": losing(r=-0.4, n=-0.6),
    "by chance": losing(r=(2.0, -1.0, 5.0), n=(1.5, -2.0, 5.0)),
    "some by chance": losing(r=20.0, n=(2.0, -1.0, 5.0), t=(-3.0, -5.0, -1.0)),
    "few samples": losing(r=29.0, n=(0.3, -12.0, 10.0), t=(0.0, -0.5, 0.5)),
    "one that harms": losing(r=0.4, n=(-12.0, -16.0, -8.0), t=(-3.0, -7.0, 1.0)),
    "many": losing(video=29.0, **{f"m{i}": 0.1 * i for i in range(6)}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_happens_to_the_accuracy(golden, case):
    golden(conclusion(CASES[case]))


def test_the_points_are_the_difference_of_what_is_written():
    """77.4 - 48.5 would be 29 points, but 77 - 48 is what a reader sees."""
    for k in range(100):
        said = conclusion(losing(0.774 + k / 1000, r=28.9, n=0.1))
        before, after, points = map(
            float, re.search(r"from ([\d.]+) to ([\d.]+)% \(([\d.]+) points", said).groups()
        )
        assert before - after == points


UNLABELLED = {"accuracy": None, "accuracy_loss": None, "accuracy_without": None}


def test_without_labels_it_says_how_many_predictions_change(golden):
    golden(conclusion(sample(**UNLABELLED)))
    few = {n: around(0.004 - 0.001 * k) for k, n in enumerate("rnt")}
    golden(conclusion(sample(**UNLABELLED, changed_predictions=few)))


def test_with_identities_it_says_what_rank_1_loses(golden):
    lost = {"r": 0.21, "n": 0.06, "t": 0.001}
    loss = {n: Interval(v, v - 0.02, v + 0.02) for n, v in lost.items()}
    without = {n: around(0.84 - v.mean) for n, v in loss.items()}
    report = sample(**UNLABELLED, retrieval=Retrieval(800, around(0.84), without, loss))
    golden(conclusion(report))
    assert [card.value for card in cards(report)] == [
        "84.0%",
        "\u221221.0 points",
        "\u22126.0 points",
        "\u22120.1 points",
        "r",
    ]


def test_without_classes_it_says_how_far_the_prediction_moves(golden):
    golden(conclusion(sample(**UNLABELLED, changed_predictions=None, measure="squared")))
    assert cards(sample(**UNLABELLED, changed_predictions=None))[0].value == "0.1877 nats"


def test_another_modality_that_dominates_more_often_is_named(golden):
    dominance = {"r": around(0.1), "n": around(0.7), "t": around(0.2)}
    changes = {"dominance": dominance, "no_influence": Interval(0.03, 0.02, 0.04)}
    report = dataclasses.replace(CASES["one"], names=("r", "n", "t"), **changes)
    golden(conclusion(report))


ZERO_AT_LOW = Interval(0.2, 0.0, 0.5)
"""The largest mean, but it is not certain that there is anything."""


def test_what_it_leans_on_is_what_it_names_first(golden):
    """The largest value may be that of another modality, if it may be chance."""
    values = {"r": ZERO_AT_LOW, "n": around(0.15), "t": around(0.01)}
    golden(conclusion(sample(**UNLABELLED, changed_predictions=values)))
    golden(conclusion(sample(**UNLABELLED, changed_predictions=None, influence=values)))
