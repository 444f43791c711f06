"""Probabilities in the place of logits."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import verify
from cmiei_hooks.fusion import ends_in_probabilities, looks_like_probabilities

NAME = "head returns logits, not probabilities"


def said(head: nn.Module, x: Tensor, **options) -> str:
    report = verify(Fused(head), x, head="classifier", splits=WIDTHS, **options)
    (check,) = [check for check in report.checks if check.name == NAME]
    return "" if check.ok else check.found


class Functional(nn.Linear):
    """Ends in a function, not in a module."""

    end = staticmethod(torch.sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x) * 3)


class Softmaxes(Functional):
    end = staticmethod(lambda z: z.softmax(-1))


class Normalises(Functional):
    """Not a softmax, but its rows are >= 0 and sum to 1."""

    end = staticmethod(lambda z: z.exp() / z.exp().sum(1, keepdim=True))


class Doubles(Functional):
    end = staticmethod(lambda z: z.softmax(-1) * 2)


class LogSoftmaxes(Functional):
    end = staticmethod(lambda z: z.log_softmax(-1))


class Positive(Functional):
    end = staticmethod(torch.relu)


def linear() -> nn.Linear:
    return nn.Linear(12, 7)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(linear(), nn.Softmax(-1)),
        lambda: nn.Sequential(linear(), nn.Sequential(nn.ReLU(), nn.Softmax(dim=1))),
        lambda: nn.Sequential(linear(), nn.Sigmoid()),
        lambda: Functional(12, 7),
        lambda: Softmaxes(12, 7),
        lambda: Normalises(12, 7),
    ],
)
def test_verify_says_no(make, x, golden):
    golden(said(make(), x))


@pytest.mark.parametrize(
    "make",
    [
        linear,
        lambda: nn.Sequential(linear(), nn.LogSoftmax(-1)),
        lambda: LogSoftmaxes(12, 7),
        lambda: Doubles(12, 7),
        lambda: Positive(12, 7),
        lambda: nn.Sequential(nn.Sigmoid(), linear()),
    ],
)
def test_these_are_logits(make, x):
    assert said(make(), x) == ""


def test_a_bounded_regression_may_end_in_a_sigmoid(x):
    report = verify(
        Fused(nn.Sequential(nn.Linear(12, 1), nn.Sigmoid())),
        x,
        head="classifier",
        splits=WIDTHS,
        measure="squared",
    )
    assert report.ok
    assert NAME not in [check.name for check in report.checks]


def test_one_row_does_not_count():
    row = torch.tensor([[0.25, 0.75]])
    assert not looks_like_probabilities(row)
    assert looks_like_probabilities(row.expand(2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_in_every_precision(dtype):
    logits = torch.randn(64, 300).to(dtype)
    # Torch 2.1 has no softmax of float16 on the CPU.
    probabilities = logits.double().softmax(1).to(dtype)
    assert looks_like_probabilities(probabilities)
    assert not looks_like_probabilities(probabilities * 1.1)
    assert not looks_like_probabilities(logits)
    assert looks_like_probabilities(logits).device == logits.device


def test_without_gradient_the_last_module_tells():
    head = nn.Sequential(linear(), nn.Softmax(-1))
    with torch.no_grad():
        assert ends_in_probabilities(head, head(torch.randn(3, 12))) == "softmax"
        assert ends_in_probabilities(head[0], head[0](torch.randn(3, 12))) == ""


@pytest.mark.filterwarnings("ignore:.*returns probabilities")
def test_the_remedy_gives_the_influence_of_the_logits(x):
    """And without it the influence is many times smaller."""

    def influence(head: nn.Module, **options) -> Tensor:
        model = Fused(head)
        model.load_state_dict(weights, strict=False)
        model.classifier = head
        handle = cmiei_hooks.attach(
            model, head="classifier", splits=WIDTHS, log=False, k=1, **options
        )
        handle.set_epoch(0)
        model(x)
        handle.remove()
        return handle.last.influence

    weights, last = Fused().state_dict(), linear()
    last.weight.data.mul_(8)
    right = influence(last)
    probabilities = nn.Sequential(last, nn.Softmax(-1))
    # The remedy of the golden text above.
    repaired = influence(probabilities, output=lambda p: p.clamp_min(1e-7).log())
    assert torch.allclose(repaired, right, rtol=1e-3, atol=1e-5)
    assert influence(probabilities).mean() < right.mean() / 5
    assert said(probabilities, x, output=lambda p: p.clamp_min(1e-7).log()) == ""


def test_probabilities_among_other_outputs(x, golden):
    class Dict(nn.Sequential):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x, "p": super().forward(x)}

    golden(said(Dict(linear(), nn.Softmax(-1)), x, output="p"))
    assert said(Dict(linear()), x, output="p") == ""
