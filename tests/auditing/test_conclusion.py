"""The outcome in a few sentences: samples without a dominant modality are not anybody's."""

from __future__ import annotations

import io
import json

import pytest
import torch
from helpers import WIDTHS, Fused
from rich.console import Console
from torch import Tensor, nn

from cmiei_hooks import AuditReport, audit
from cmiei_hooks.auditing import violations

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
    return audit(model, [torch.randn(40, 6)], **WHERE)


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
    golden(shown(report).split("╭")[0].split("┏")[0])


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
