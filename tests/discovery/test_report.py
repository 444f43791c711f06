"""The printed lines are Python, and lead to the logits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from fusion_models import (
    OGM,
    B,
    Bottleneck,
    C,
    Concat,
    Experts,
    Mixture,
    MultiBench,
    ReID,
    best,
    inputs,
    with_head,
)
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import discover


def test_one_logit_asks_for_its_measure():
    report = discover(MultiBench(Concat(), 8, classes=1), inputs(2))
    assert best(report)["measure"] == "bernoulli"


MODELS = [
    (ReID, inputs),
    (Bottleneck, inputs),
    (Mixture, lambda: [dict(zip(("RGB", "NI", "TI"), inputs(3, 5, 6), strict=True))]),
    (OGM, lambda: inputs(2)),
    (Experts, inputs),
    (lambda: MultiBench(Concat(), 8, classes=1), lambda: [inputs(2)]),
]


@pytest.mark.parametrize(("build", "given"), MODELS)
def test_the_printed_lines_are_python(build, given, monkeypatch, capsys):
    model = build()
    report = discover(model, *given())
    got = []
    monkeypatch.setattr(cmiei_hooks, "attach", lambda *args, **kwargs: got.append((args, kwargs)))
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith("cmiei_hooks.attach(")]
    assert lines == [c.line for c in report.candidates]  # whole, however wide the terminal is
    for line in lines:
        eval(line, {"cmiei_hooks": cmiei_hooks, "model": model})
    assert got == [((model,), c.arguments) for c in report.candidates]


def test_the_line_of_a_plain_head():
    (line,) = [c.line for c in discover(ReID(), *inputs()).candidates]
    expected = 'head="classifier", splits=[4, 3, 5], names=["r", "n", "t"]'
    assert line == f"cmiei_hooks.attach(model, {expected})"


@dataclass
class Output:
    features: list[Tensor]
    extra: dict[str, list[Tensor]]


class Nested(nn.Linear):
    def forward(self, x):
        return Output([x.tanh()], {"all": [super().forward(x)]})


def test_logits_deep_in_an_output_are_read_by_a_function():
    report = discover(with_head(Nested(12, C)), *inputs())
    (found,) = [c for c in report.candidates if "extra" in c.line]
    assert found.line.endswith('output=lambda out: out.extra["all"][0])')
    written = eval(found.line.partition("output=")[2][:-1])
    returned = Nested(12, C)(torch.randn(B, 12))
    assert written(returned) is found.output[0](returned) is returned.extra["all"][0]


def test_modules_that_are_never_called_share_one_row(golden, capsys):
    model = ReID()
    model.unused = nn.ModuleList([nn.Linear(2, 2) for _ in range(9)])
    report = discover(model, *inputs())
    assert len(report.ruled_out) == 9
    golden(capsys.readouterr().out)
