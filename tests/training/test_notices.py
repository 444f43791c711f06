"""Warnings about training that does not do what the user thinks; each is given once."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn

import cmiei_hooks
from cmiei_hooks import CMIEIWarning

ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "log": False}


def attach(model: nn.Module, **settings) -> cmiei_hooks.Handle:
    return cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **(ACTING | settings))


def warned(run) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught if issubclass(w.category, CMIEIWarning)]


class Around(nn.Module):
    """An adapter: the old module is inside it and is still called."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_layer = base
        self.more = nn.Linear(sum(WIDTHS), 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.more(x)


def wrapped(model: Fused) -> None:
    model.classifier = Around(model.classifier)


def wrapped_in_a_module_named_module(model: Fused) -> None:
    around = Around(model.classifier)
    around.module = around._modules.pop("base_layer")
    around.forward = lambda x: around.module(x) + around.more(x)
    model.classifier = around


def replaced(model: Fused) -> None:
    model.classifier = nn.Linear(sum(WIDTHS), 3)


def removed(model: Fused) -> None:
    del model.classifier


def test_a_batch_of_one_has_no_standard_deviation(model, x, golden):
    attach(model, sigma_unit="std")
    golden("\n".join(warned(lambda: model(x[:1]))))


@pytest.mark.parametrize("change", [wrapped, wrapped_in_a_module_named_module])
def test_a_head_that_was_wrapped_is_noticed_in_the_next_call(change, model, x, golden):
    attach(model)
    change(model)
    message, *others = warned(lambda: [model(x) for _ in range(3)])
    golden(message)
    assert not others


@pytest.mark.parametrize("change", [replaced, removed])
def test_a_head_that_is_no_longer_there_is_noticed_in_the_next_epoch(change, model, x, golden):
    handle = attach(model)
    handle.set_epoch(0)
    model(x)
    change(model)
    golden("\n".join(warned(lambda: [handle.set_epoch(epoch) for epoch in (1, 2)])))


def trained_on(model: Fused, handle: cmiei_hooks.Handle, x: torch.Tensor) -> None:
    model(x).sum().backward()
    handle.remove()


@pytest.mark.parametrize("change", [replaced, wrapped])
def test_a_head_that_was_replaced_between_two_estimates_is_noticed_at_the_end(
    change, model, x, golden
):
    handle = attach(model, k=3)
    model(x)
    change(model)
    golden("\n".join(warned(lambda: trained_on(model, handle, x))))


@pytest.mark.parametrize("change", [replaced, wrapped])
def test_a_head_that_was_replaced_after_the_training_is_not(change, model, x):
    handle = attach(model, k=3)
    model(x).sum().backward()
    change(model)
    assert warned(handle.remove) == []


@pytest.mark.parametrize("settings", [{}, {"measure": "bernoulli"}])
def test_a_head_that_ends_in_a_sigmoid_is_noticed(settings, x, golden):
    model = Fused(nn.Sequential(nn.Linear(sum(WIDTHS), 7), nn.Sigmoid()))
    attach(model, **settings)
    messages = warned(lambda: [model(x) for _ in range(3)])
    golden("\n".join(messages))
    assert len(messages) == 1


@pytest.mark.negative_control
def test_a_head_that_turns_the_sigmoid_back_is_not(x):
    model = Fused(nn.Sequential(nn.Linear(sum(WIDTHS), 7), nn.Sigmoid()))
    attach(model, measure="bernoulli", output=lambda p: p.logit(1e-6))
    assert warned(lambda: [model(x) for _ in range(3)]) == []


def test_probabilities_are_noticed_after_a_first_batch_of_one(x):
    model = Fused(nn.Sequential(nn.Linear(sum(WIDTHS), 7), nn.Softmax(1)))
    handle = attach(model, p_max=0.0)
    messages = warned(lambda: [model(x[:1]), model(x), handle.metrics()])
    assert ["probabilities" in message for message in messages] == [False, True]


def test_a_parent_that_was_replaced_is_noticed(x):
    model = nn.Sequential(Fused())
    handle = cmiei_hooks.attach(model, head="0.classifier", splits=WIDTHS, **ACTING)
    head = model[0].classifier
    model[0] = Fused(head)  # the head is where it was, under a new parent
    assert warned(lambda: handle.set_epoch(1)) == []
    model[0] = Fused()
    assert len(warned(lambda: handle.set_epoch(2))) == 1


def test_wrappers_that_change_nothing_are_silent(model, x):
    handle = attach(model)
    model.classifier = torch.compile(model.classifier, backend="eager")
    assert warned(lambda: [model(x), handle.set_epoch(1), model(x), handle.remove()]) == []


def test_a_batch_of_one_and_a_cap_below_one_sample_are_said_once(model, x, golden):
    attach(model)
    golden("\n".join(warned(lambda: [model(x[:1]) for _ in range(3)])))
    other = Fused()
    attach(other, p_max=0.1)
    golden("\n".join(warned(lambda: [other(x[:9]) for _ in range(3)])))


@pytest.mark.parametrize("settings", [{"p_max": 0.0}, {"warmup_epochs": 1, "first_epoch": 0}])
def test_small_batches_are_fine_where_nothing_is_meant_to_be_substituted(settings, model, x):
    handle = attach(model, **settings)
    handle.set_epoch(0)
    assert warned(lambda: model(x[:2])) == []


@pytest.mark.parametrize(("p_max", "messages"), [(0.0, 0), (0.5, 1)])
def test_a_warm_up_that_nobody_ends_matters_only_if_something_is_meant_to_be_substituted(
    p_max, messages, model, x
):
    attach(model, warmup_epochs=1, log_period=2, p_max=p_max)
    assert len(warned(lambda: [model(x) for _ in range(8)])) == messages


def test_calls_without_gradient_are_no_training(model, x, golden):
    handle = attach(model)
    handle.set_epoch(0)
    inputs = []
    model.classifier.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with torch.no_grad():
        model(x)
    with torch.inference_mode():
        model(x)
    assert handle.step == 0
    assert handle.last is None
    assert all(torch.equal(features, model.features(x)) for features in inputs)
    golden("\n".join(warned(lambda: handle.set_epoch(1))))


class Checkpointed(Fused):
    """The head is in a region of activation checkpointing."""

    def __init__(self, head: nn.Module, reentrant: bool) -> None:
        super().__init__(head)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run = torch.utils.checkpoint.checkpoint
        return run(self.classifier, self.features(x), use_reentrant=self.reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [None, True, False])
def test_update_bn_gives_the_statistics_of_a_model_without_the_tool(reentrant):
    data = [torch.randn(32, 6) * 3 + 5 for _ in range(5)]
    found = []
    for attached in (False, True):
        torch.manual_seed(0)
        head = nn.Sequential(nn.BatchNorm1d(sum(WIDTHS)), nn.Linear(sum(WIDTHS), 7))
        model = Fused(head) if reentrant is None else Checkpointed(head, reentrant)
        if attached:
            attach(model)
        torch.optim.swa_utils.update_bn(data, model)
        found.append(model.classifier[0].running_var)
    assert torch.equal(*found)


@pytest.mark.negative_control
def test_if_calls_without_gradient_counted_update_bn_would_be_wrong(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.training.step.in_checkpointed_region", lambda: True)
    with pytest.raises(AssertionError):
        test_update_bn_gives_the_statistics_of_a_model_without_the_tool(reentrant=None)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_forward_counts_although_its_gradient_is_off(reentrant, model, x):
    handle = attach(model)
    x.requires_grad_()
    out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=reentrant)
    out.sum().backward()
    assert handle.step == 1
    assert handle.metrics()["C_MIEI_Ratio"] == 0.5


class Classified(nn.Module):
    """Three encoders, concatenation, an MLP head."""

    def __init__(self, *end: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(6, width) for width in WIDTHS)
        width = sum(WIDTHS)
        self.fusion = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 7), *end)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fusion(torch.cat([encode(x) for encode in self.encoders], 1))


@pytest.mark.parametrize("calls", [1, 3])
def test_a_hidden_layer_that_was_named_as_the_head_is_noticed(calls, x, golden):
    model = Classified()
    handle = cmiei_hooks.attach(model, head="fusion.0", splits=WIDTHS, **ACTING)
    model.eval()(x)  # a sanity check before training shows nothing
    model.train()
    (message,) = warned(lambda: [*(model(x) for _ in range(calls)), handle.remove()])
    golden(message)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_right_head_is_no_reason_to_warn_and_the_hooks_go(compiled, x):
    model = Classified()
    run = torch.compile(model, backend="eager") if compiled else model
    handle = cmiei_hooks.attach(run, head="fusion", splits=WIDTHS, **ACTING)
    assert warned(lambda: [run(x) for _ in range(2)]) == []
    assert not model._forward_hooks
    assert not model.fusion._forward_hooks
    assert warned(handle.remove) == []


@pytest.mark.parametrize(("end", "count"), [(nn.Softmax(1), 1), (nn.LogSoftmax(1), 0)])
def test_probabilities_instead_of_logits_are_noticed(end, count, x, golden):
    model = Classified(end)
    handle = cmiei_hooks.attach(model, head="fusion", splits=WIDTHS, **ACTING)
    messages = warned(lambda: [model(x), handle.metrics(), model(x), handle.remove()])
    assert len(messages) == count
    golden("\n".join(messages))


def test_a_batch_of_one_is_its_own_mean(model, x, golden):
    handle = attach(model, drop="mean", warmup_epochs=1)
    handle.set_epoch(0)
    (message,) = warned(lambda: [model(x[:1]) for _ in range(2)])
    golden(message)
    assert not handle.last.influence.any()
    assert not warned(lambda: model(x))
