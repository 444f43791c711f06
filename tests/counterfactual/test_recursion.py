"""Heads that call themselves, or the model, are refused in plain words."""

from __future__ import annotations

import pytest
from helpers import WIDTHS, Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import verify
from cmiei_hooks.errors import HeadError

WHERE = {"head": "classifier", "splits": WIDTHS}


class CallsItself(nn.Linear):
    """Twice, for symmetry; the inner call is a plain one."""

    inner = False

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        if self.inner:
            return z
        self.inner = True
        try:
            return z + self(-x)
        finally:
            self.inner = False


class CallsTheModel(nn.Linear):
    """To see what the model makes of the negative input, once."""

    inner = False

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        if self.inner:
            return z
        self.inner = True
        try:
            return z + self.model[0](-self.x)
        finally:
            self.inner = False


def build(kind: type[nn.Linear], x: Tensor) -> Fused:
    model = Fused(kind(12, 7))
    model.classifier.model, model.classifier.x = [model], x  # in a list: not a submodule
    return model


KINDS = [CallsItself, CallsTheModel]


@pytest.mark.negative_control
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_attach_refuses_it_in_the_first_call(x, kind, k, golden):
    model = build(kind, x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    handle = cmiei_hooks.attach(model, **WHERE, log=False, k=k)
    handle.set_epoch(0)
    with pytest.raises(HeadError) as error:
        model(x)
    golden(error.value)
    handle.remove()
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    model(x)  # nothing is left behind


@pytest.mark.parametrize("kind", KINDS)
def test_verify_says_no(x, kind):
    report = verify(build(kind, x), x, **WHERE)
    assert "logits" in [check.name for check in report.checks if not check.ok]


def test_a_head_that_is_called_twice_by_the_model_is_not_one_that_calls_itself(x):
    class Twice(Fused):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + super().forward(-x)

    handle = cmiei_hooks.attach(Twice(), **WHERE, log=False, k=1)
    handle.set_epoch(0)
    assert verify(Twice(), x, **WHERE).ok


def test_an_error_in_the_head_ends_the_run(x):
    class Fails(nn.Linear):
        fails = True

        def forward(self, x: Tensor) -> Tensor:
            if self.fails:
                raise RuntimeError("no")
            return super().forward(x)

    model = Fused(Fails(12, 7))
    cmiei_hooks.attach(model, **WHERE, log=False, k=1).set_epoch(0)
    with pytest.raises(RuntimeError):
        model(x)
    model.classifier.fails = False
    model(x)
