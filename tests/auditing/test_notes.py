"""What a reader must know about the samples: probabilities instead of logits."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

from cmiei_hooks import CMIEIWarning, audit

WHERE = {"head": "classifier", "splits": WIDTHS}


class Softmax(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(-1)


class Normalised(nn.Linear):
    """Rows that add up to 1, but not by softmax."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x).exp2()
        return scores / scores.sum(-1, keepdim=True)


def ending_in(last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 7), last)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(ending_in(nn.Softmax(-1)), id="softmax"),
        pytest.param(ending_in(nn.Sigmoid()), id="sigmoid"),
        pytest.param(Softmax(12, 7), id="inside a forward"),
        pytest.param(Normalised(12, 7), id="normalised"),
    ],
)
@pytest.mark.parametrize("size", [8, 1])
@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_probabilities_are_noted_and_warned_of_once(head, size, drop, golden):
    with pytest.warns(CMIEIWarning) as caught:
        report = audit(Fused(head), torch.randn(8, 6).split(size), **WHERE, drop=drop)
    assert len(report.notes) == 1
    assert [str(one.message) for one in caught] == [*report.notes]
    if (size, drop) == (8, "zero"):
        golden(report.notes[0])


@pytest.mark.negative_control
@pytest.mark.parametrize(
    ("head", "more"),
    [
        pytest.param(nn.Linear(12, 7), {}, id="logits"),
        pytest.param(ending_in(nn.LogSoftmax(-1)), {}, id="log-softmax"),
        pytest.param(ending_in(nn.ReLU()), {}, id="not negative"),
        pytest.param(ending_in(nn.Softmax(-1)), {"output": torch.log}, id="turned back"),
        pytest.param(ending_in(nn.Softmax(-1)), {"measure": "squared"}, id="squared"),
    ],
)
def test_logits_are_not(head, more):
    assert not audit(Fused(head), [torch.randn(8, 6)], **WHERE, **more).notes


def test_one_sample_may_look_like_probabilities_by_chance():
    class Constant(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * super().forward(x) + 1 / 7

    with pytest.warns(CMIEIWarning, match="unknown for 1 of 1"):
        report = audit(Fused(Constant(12, 7)), [torch.randn(1, 6)], **WHERE)
    assert len(report.notes) == 1
