"""A module in place of its name: the same head, in every function that takes one."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn

import cmiei_hooks
from cmiei_hooks import CMIEIError
from cmiei_hooks.errors import ConfigError, HeadError
from cmiei_hooks.fusion import head_names


class Wrapper(nn.Module):
    """Names its content as DistributedDataParallel does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


class Chain(Fused):
    """A BatchNorm in front of the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.bottleneck = nn.BatchNorm1d(sum(WIDTHS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.bottleneck(self.features(x)))


WRAPPED = {
    "bare": lambda model: model,
    "wrapped": Wrapper,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: Wrapper(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_module_is_its_name_in_the_bare_model(wrap):
    model = Chain()
    whole = wrap(model)
    assert head_names(whole, model.classifier) == "classifier"
    assert head_names(whole, [model.bottleneck, "classifier"]) == ["bottleneck", "classifier"]
    assert head_names(whole, (model.bottleneck, model.classifier)) == ["bottleneck", "classifier"]
    assert head_names(whole, whole) == ""


def test_names_stay_as_they_are():
    model = Fused()
    assert head_names(model, None) is None
    assert head_names(model, "clasifier") == "clasifier"  # refused where heads are found


def test_a_compiled_head():
    model = Fused()
    assert head_names(model, torch.compile(model.classifier, backend="eager")) == "classifier"
    model.classifier = torch.compile(model.classifier, backend="eager")
    assert head_names(model, model.classifier) == "classifier"
    assert head_names(model, model.classifier._orig_mod) == "classifier"


def test_the_short_name_of_another_module_is_not_taken():
    model = Wrapper(Fused())
    model.classifier = nn.Linear(12, 2)
    assert head_names(model, model.module.classifier) == "module.classifier"
    assert head_names(model, model.classifier) == "classifier"


def test_a_module_with_two_names_has_the_first():
    model = Fused()
    model.again = model.classifier
    assert head_names(model, model.again) == "classifier"


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda model: copy.deepcopy(model).classifier, id="of a copy"),
        pytest.param(lambda model: [nn.Linear(12, 12), model.classifier], id="in a chain"),
    ],
)
def test_a_module_of_another_model_is_refused(head, golden):
    model = Fused()
    with pytest.raises(HeadError) as error:
        head_names(model, head(model))
    golden(error.value)


@pytest.mark.parametrize("head", [nn.Linear, 5, [3], []], ids=["class", "number", "list", "empty"])
def test_what_is_neither_a_module_nor_a_name_is_refused_as_ever(head):
    with pytest.raises(ConfigError):
        cmiei_hooks.attach(Fused(), head=head, splits=WIDTHS)


def test_what_is_no_model_is_refused_before_its_head():
    with pytest.raises(HeadError):
        head_names("model", nn.Linear(3, 4))


def test_attach_verify_and_audit_take_modules_and_named_splits(capsys):
    splits = dict(zip(("audio", "video", "text"), WIDTHS, strict=True))
    x = torch.randn(8, 6)
    model = Chain()
    chain = [model.bottleneck, model.classifier]
    for head in (model.classifier, chain):
        with cmiei_hooks.attach(model, head=head, splits=splits, log=False) as handle:
            assert handle.names == ("audio", "video", "text")
            assert handle.config.head == head_names(model, head) or handle.config.head == tuple(
                head_names(model, head)
            )
        report = cmiei_hooks.verify(model, x, head=head, splits=splits)
        assert all(check.ok for check in report.checks), capsys.readouterr().out
        assert list(cmiei_hooks.audit(model, [x], head, splits).influence) == list(splits)


def test_noise_and_state_are_those_of_the_name():
    """The noise is seeded with the name of the head, and a state is that of a named head."""
    states = []
    for by_module in (False, True):
        torch.manual_seed(0)
        model = Fused()
        head = model.classifier if by_module else "classifier"
        settings = {"warmup_steps": 0, "k": 1, "abs_thr": 0.0, "rel_thr": 1.0, "log": False}
        with cmiei_hooks.attach(model, head, WIDTHS, **settings) as handle:
            model(torch.randn(8, 6)).sum().backward()
            states.append((handle.state_dict(), model.classifier.weight.grad))
    (named, one), (by_module, other) = states
    assert named.keys() == by_module.keys()
    assert named["head"] == by_module["head"] == "classifier"
    assert torch.equal(one, other)


@pytest.mark.negative_control
def test_verify_lists_a_module_of_another_model_as_a_failed_check():
    report = cmiei_hooks.verify(Fused(), head=nn.Linear(12, 7), splits=WIDTHS)
    assert [(check.name, check.ok) for check in report.checks] == [("head found", False)]
    with pytest.raises(CMIEIError):
        cmiei_hooks.verify(Fused(), head=nn.Linear(12, 7), splits=WIDTHS, strict=True)
