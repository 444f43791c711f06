"""The printed lines are Python, and lead to the logits."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
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
from cmiei_hooks.errors import ConfigError, HeadError


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


def test_attach_takes_the_best_candidate_and_the_settings():
    model = Bottleneck()
    report = discover(model, *inputs())
    with report.attach(warmup_steps=7, names=["a", "b", "c"], log=False) as handle:
        assert handle.config.head == report.candidates[0].arguments["head"]
        assert (handle.config.warmup_steps, handle.names) == (7, ("a", "b", "c"))
        assert len(model.get_submodule(handle.config.head)._forward_pre_hooks) == 1


def test_attach_reaches_the_model_that_was_passed_also_if_it_is_compiled():
    model = ReID()
    compiled = torch.compile(model, backend="eager")
    with discover(compiled, *inputs()).attach(log=False):
        assert len(model.classifier._forward_pre_hooks) == 1


class Sum(nn.Module):
    """Late fusion: no module receives both modalities."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.LazyLinear(C), nn.LazyLinear(C)

    def forward(self, x, y):
        return self.one(x) + self.other(y)


@pytest.mark.negative_control
def test_without_a_candidate_attach_says_what_the_notes_say(golden):
    model, given = Sum(), inputs(2)
    model(*given)  # it is lazy
    report = discover(model, *given)
    assert not report.candidates
    with pytest.raises(HeadError) as error:
        report.attach()
    golden(error.value)


@pytest.mark.negative_control
def test_attach_refuses_to_be_told_where(golden):
    with pytest.raises(ConfigError) as error:
        discover(ReID(), *inputs()).attach(head="other", splits=[6, 6], k=1)
    golden(error.value)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "twin",
    [copy.copy, copy.deepcopy, lambda report: pickle.loads(pickle.dumps(report))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_of_a_report_do_not_hold_the_model(twin, golden):
    model = ReID()
    report = discover(model, *inputs())
    other = twin(report)
    assert other == report
    assert repr(other) == repr(report)
    with pytest.raises(HeadError) as error:
        other.attach()
    golden(error.value)
    report.attach(log=False).remove()  # copying takes nothing from the report itself


def test_a_report_does_not_keep_the_model_alive():
    model = ReID()
    report, alive = discover(model, *inputs()), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    with pytest.raises(HeadError):
        report.attach()
