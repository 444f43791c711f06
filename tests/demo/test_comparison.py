from __future__ import annotations

import re

import pytest
import torch
from helpers import WIDTHS, Fused
from rich.console import Console

from cmiei_hooks import audit
from cmiei_hooks.auditing import AuditReport
from cmiei_hooks.demo import comparison_table, summary_sentence


@pytest.fixture
def reports() -> tuple[AuditReport, AuditReport]:
    """Of one model over the same labelled samples, the second with half the weights for r."""
    model, x = Fused(), torch.randn(40, 6)
    label = model(x).argmax(1)
    where = {"head": "classifier", "splits": WIDTHS}
    before = audit(model, [(x, label)], **where)
    with torch.no_grad():
        model.classifier.weight[:, : WIDTHS[0]] *= 0.5
    return before, audit(model, [(x, label)], **where)


def test_the_table_has_a_row_for_each_value_and_modality(reports, golden):
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(comparison_table(*reports))
    golden(captured.get())


def test_the_sentence_is_about_the_view_that_dominated(reports):
    before, after = reports
    text = summary_sentence(before, after)
    view = max(before.influence, key=lambda name: before.influence[name].mean)
    numbers = [float(n) for n in re.findall(r"[+-][\d.]+", text)]
    assert f"dominant view {view}:" in text
    assert numbers == [
        pytest.approx(100 * (after.influence[view].mean / before.influence[view].mean - 1), abs=1),
        pytest.approx(
            100 * (after.accuracy_without[view].mean - before.accuracy_without[view].mean)
        ),
        pytest.approx(100 * (after.accuracy.mean - before.accuracy.mean)),
    ]
