"""No silent no-op: each way round the hook is refused or warned about, naming cause and remedy."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIWarning, Handle


def attach(model: nn.Module, **settings) -> Handle:
    options = {"head": "classifier", "splits": WIDTHS, "k": 1, "warmup_epochs": 0, "log": False}
    return cmiei_hooks.attach(model, **(options | settings))


class Functional(Fused):
    """Uses the weight of the head without calling it."""

    def forward(self, x: Tensor) -> Tensor:
        head = self.classifier
        return nn.functional.linear(self.features(x), head.weight, head.bias)


def epochs(model: Fused, handle: Handle, count: int = 3) -> list[str]:
    """The warnings in some epochs of training."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for epoch in range(count):
            handle.set_epoch(epoch)
            model(torch.randn(4, 6))
        handle.remove()
    assert all(w.category is CMIEIWarning for w in seen)
    return [str(w.message) for w in seen]


def test_a_head_that_is_called_is_not_warned_about():
    model = Fused()
    assert epochs(model, attach(model)) == []


def test_a_weight_that_is_used_without_calling_the_head(golden):
    model = Functional()
    (message,) = epochs(model, attach(model))
    golden(message)


def test_in_a_single_epoch_it_is_said_at_the_removal(golden):
    model = Functional()
    (message,) = epochs(model, attach(model), count=1)
    golden(message)


def test_without_epochs_it_is_said_at_the_removal_too(golden):
    model = Functional()
    handle = attach(model)
    model(torch.randn(4, 6)).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    with pytest.warns(CMIEIWarning) as warned:
        handle.remove()
    golden(warned[0].message)


def trained(model: nn.Module, steps: int = 1, *, set_to_none: bool = False) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        model(torch.randn(4, 6)).sum().backward()
        optimizer.step()
        if set_to_none:
            optimizer.zero_grad()


def loaded(model: nn.Module, times: int = 1) -> None:
    for _ in range(times):
        model.load_state_dict(Functional().state_dict())


@pytest.mark.parametrize(
    ("use", "warns"),
    [
        pytest.param(lambda model: None, False, id="nothing"),
        pytest.param(loaded, False, id="weights are loaded"),
        pytest.param(lambda model: loaded(model, 5), False, id="and loaded again"),
        pytest.param(trained, True, id="a step"),
        pytest.param(
            lambda model: trained(model, 20, set_to_none=True), True, id="no gradients left"
        ),
        pytest.param(lambda model: [loaded(model), trained(model)], True, id="loaded, then a step"),
    ],
)
def test_without_epochs_only_training_makes_silence(use, warns):
    model = Functional()
    handle = attach(model)
    use(model)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        handle.remove()
    assert len(seen) == warns


def test_gradients_from_before_are_no_training():
    model = Functional()
    trained(model)
    handle = attach(model)
    loaded(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.remove()
    handle = attach(model)
    trained(model, 20)
    with pytest.warns(CMIEIWarning, match="was not called"):
        handle.remove()


class SometimesFunctional(Functional):
    """Calls its head until it is told not to."""

    calls = True

    def forward(self, x: Tensor) -> Tensor:
        return Fused.forward(self, x) if self.calls else super().forward(x)


def test_a_head_that_is_not_called_any_more_in_a_later_epoch(golden):
    model = SometimesFunctional()
    handle = attach(model)
    handle.set_epoch(0)
    model(torch.randn(4, 6))
    model.calls = False
    handle.set_epoch(1)
    model(torch.randn(4, 6))
    with pytest.warns(CMIEIWarning) as warned:
        handle.set_epoch(2)
    golden(warned[0].message)


def test_resuming_and_stopping_early_are_no_silence():
    model = Fused()
    handle = attach(model)
    handle.set_epoch(0)
    model(torch.randn(4, 6))
    state = handle.state_dict()
    handle.set_epoch(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.remove()
        resumed = attach(model)
        resumed.load_state_dict(state)
        resumed.set_epoch(1)
        model(torch.randn(4, 6))
        resumed.remove()


def test_a_head_replaced_after_attach(golden):
    model = Fused()
    handle = attach(model)
    model.classifier = nn.Linear(12, 7)
    (message,) = epochs(model, handle)
    golden(message)


def test_a_model_or_head_left_in_eval_mode(golden):
    model = Fused()
    handle = attach(model)
    model.classifier.eval()
    (message,) = epochs(model, handle)
    golden(message)


def test_a_suspended_epoch_is_no_silence():
    model = Fused()
    handle = attach(model)
    with handle.suspend():
        assert epochs(model, handle) == []


def compiled_and_run(x: Tensor) -> tuple[Fused, nn.Module]:
    model = Fused()
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    return model, compiled


def test_a_model_that_was_compiled_and_run_is_compiled_once_more(x, golden):
    model, compiled = compiled_and_run(x)
    with pytest.warns(CMIEIWarning) as warned:
        handle = attach(model)
    golden(warned[0].message)
    compiled(x)
    assert handle.step == 1


def test_another_instance_of_the_class_or_a_function_around_it(x):
    model = Fused()

    def around(x: Tensor) -> Tensor:
        return model(x) * 2

    function = torch.compile(around, backend="eager")
    function(x)
    handle = attach(model)
    function(x)
    assert handle.step == 1


@pytest.mark.negative_control
@pytest.mark.skipif(
    torch.__version__ < "2.8", reason="torch 2.4 is known to notice the hook itself, 2.8 not to"
)
def test_without_the_reset_compiled_code_ignores_the_hook(x, monkeypatch):
    model, compiled = compiled_and_run(x)
    module = cmiei_hooks.training.attachment
    monkeypatch.setattr(module, "drop_compiled_code", lambda model: None)
    handle = attach(model)
    compiled(x)
    assert handle.step == 0


def test_compiled_code_that_is_older_than_the_removal_is_harmless(x):
    model = Fused()
    handle = attach(model)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    handle.remove()
    compiled(x)
    assert handle.step == 1


def test_a_head_that_is_itself_compiled(x):
    model = Fused()
    model.classifier = torch.compile(model.classifier, backend="eager")
    handle = attach(model)
    model(x)
    assert handle.step == 1
