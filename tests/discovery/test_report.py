"""The printed lines are Python, and lead to the logits."""

from __future__ import annotations

import argparse
import copy
import gc
import pickle
import shlex
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
from cmiei_hooks.cli.diagnose_options import add_arguments
from cmiei_hooks.cli.settings import configuration
from cmiei_hooks.discovery import Candidate
from cmiei_hooks.errors import ConfigError, HeadError
from cmiei_hooks.fusion import parse_modalities, read_logits
from cmiei_hooks.reporting import counted


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


class Mean(nn.Module):
    """Without a head: nothing in it has weights but the encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

    def forward(self, *inputs):
        return None


@dataclass
class Output:
    features: list[Tensor]
    extra: dict[str, list[Tensor]]


class Nested(nn.Linear):
    def forward(self, x):
        return Output([x.tanh()], {"all": [super().forward(x)]})


def test_logits_deep_in_an_output_are_read_by_their_keys():
    model, given = with_head(Nested(12, C)), inputs()
    report = discover(model, *given)
    (found,) = [c for c in report.candidates if "extra" in c.line]
    assert found.line.endswith('output=["extra", "all", 0])')
    assert found.options == "--head classifier --splits r=4,n=3,t=5 --logits extra,all,0"
    returned = Nested(12, C)(torch.randn(B, 12))
    assert read_logits(returned, found.output[0], B) is returned.extra["all"][0]
    with cmiei_hooks.attach(model, **found.arguments, warmup_steps=9, log=False) as handle:
        model(*given)
        assert handle.last.influence.shape == (B, 3)


@pytest.mark.parametrize(("build", "given"), MODELS)
def test_the_options_mean_the_same_as_the_line(build, given, capsys):
    report = discover(build(), *given())
    printed = capsys.readouterr().out.splitlines()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for found in report.candidates:
        assert f"# cmiei diagnose {found.options}" in printed
        args = parser.parse_args(shlex.split(found.options))
        expected = {"splits": None, "modalities": None, "dim": -1, "output": None, "measure": None}
        expected |= found.arguments
        config = configuration(args)
        head = list(config.head) if isinstance(config.head, tuple) else config.head
        assert head == expected["head"]
        assert (args.modalities is None) is (found.modalities is None)
        if found.modalities:
            assert parse_modalities(args.modalities) == parse_modalities(found.modalities)
        if found.splits:
            assert (config.splits, config.names) == (found.splits, found.names)
        assert (args.dim, args.logits) == (expected["dim"], expected["output"])
        assert args.measure == expected["measure"]
        assert args.training_branch is not found.called_in_eval


def test_options_quote_what_a_shell_and_yaml_would_read_otherwise():
    names = {"no": 0, "my text": 1, "r": [(0, 2), (4, 6)]}
    found = Candidate(("a b",), None, names, tuple(names), -1, (("x,y", 1),), 2, "", True)
    args = argparse.ArgumentParser()
    add_arguments(args)
    read = args.parse_args(shlex.split(found.options))
    assert read.head == ["a b"]
    assert read.modalities == {"no": 0, "my text": 1, "r": [[0, 2], [4, 6]]}
    assert read.logits == ["x,y", 1]
    commas = Candidate(("a",), (1, 2), None, ("x,y", "z"), -1, (None,), 2, "", True)
    assert commas.options == "--head a --splits 1,2"


def test_modules_that_are_never_called_share_one_line(golden, capsys):
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


class Gated(nn.Module):
    """No module receives both modalities, and their logits are multiplied."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.LazyLinear(C), nn.LazyLinear(C)

    def forward(self, x, y):
        return self.one(x) * self.other(y)


@pytest.mark.negative_control
def test_without_a_candidate_attach_says_what_the_notes_say(golden):
    class Dense(Gated):
        def forward(self, *xs):
            return super().forward(*xs)[..., None]  # no logits [B, C]

    model, given = Dense(), inputs(2)
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


@pytest.mark.parametrize("build", [ReID, Mean], ids=["found", "none"])
def test_a_printed_report_is_one_line_and_shows_all_when_asked(build, capsys):
    """As in ``print(discover(...))``, and as the last line of a notebook's cell."""
    report = discover(build(), *inputs())
    shown = capsys.readouterr().out
    print(report)
    (line,) = capsys.readouterr().out.splitlines()
    best = ", the best is classifier; " if report.candidates else "; "
    assert line == repr(report)
    assert line.startswith(f"<DiscoverReport: {counted(len(report.candidates), 'candidate')}{best}")
    report.print()
    assert capsys.readouterr().out == shown


def test_a_report_does_not_keep_the_model_alive():
    model = ReID()
    report, alive = discover(model, *inputs()), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    with pytest.raises(HeadError):
        report.attach()
