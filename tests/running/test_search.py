"""The search for the model: which call is the hit, and what is said if there is none."""

from __future__ import annotations

import os

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.checkpoint import checkpoint

from cmiei_hooks import CMIEIError, Config
from cmiei_hooks.fusion import locate
from cmiei_hooks.running.search import HeadSearch


@pytest.mark.parametrize(
    ("parts", "expected", "remedy"),
    [
        ({}, "a module that holds 'classifier'", "name the head as"),
        ({"expected": "two", "remedy": "add one"}, "two", "add one; name the head as"),
    ],
    ids=["without parts", "with parts"],
)
def test_whatever_the_reason_is_the_failure_has_all_parts(parts, expected, remedy, model, x):
    def locate(_):
        raise CMIEIError("there is no head", got="none", **parts)

    search = HeadSearch(locate, "classifier", print, print)
    search.start()
    try:
        model(x)
    finally:
        search.stop()
    failure = search.failure()
    assert failure.expected == expected
    assert failure.remedy.startswith(remedy)


class Wrapped(nn.Module):
    """A wrapper that calls what is in it ``module``, as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args):
        return self.module(*args)


class Task(Wrapped):
    """Something around a model whose attribute is not that of a wrapper."""

    def __init__(self, model):
        nn.Module.__init__(self)
        self.model = model

    def forward(self, *args):
        return self.model(*args)


@pytest.fixture
def search():
    found, said = [], []
    config = Config(head="classifier", splits=WIDTHS)
    search = HeadSearch(
        lambda module: locate(module, config), "classifier", found.append, said.append
    )
    search.found, search.said = found, said
    search.start()
    yield search
    search.stop()
    assert not torch_module._global_forward_pre_hooks


def test_the_hit_comes_before_the_head_is_called_and_ends_the_search(search, model, x):
    order = []
    model.classifier.register_forward_pre_hook(lambda *_: order.append(len(search.found)))
    model(x)
    assert search.found == [model]
    assert order == [1]
    assert not torch_module._global_forward_pre_hooks
    model(x)
    assert search.found == [model]


@pytest.mark.parametrize(
    ("wrap", "depth"), [(Wrapped, 0), (Task, 1), (lambda m: Wrapped(Task(m)), 2)]
)
def test_wrappers_belong_to_the_model_and_other_modules_do_not(search, model, x, wrap, depth):
    whole = wrap(model)
    whole(x)
    assert search.found == [[whole, model, model][depth]]


def test_a_compiled_model_is_found_before_it_is_compiled(search, model, x):
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    assert search.found == [compiled]


def test_calls_that_do_not_train_are_no_hit(search, model, x):
    with torch.no_grad():
        model(x)
    model.eval()(x)
    model.train()
    model.classifier.eval()
    model(x)
    assert search.found == []


def test_a_frozen_backbone_in_eval_mode_is_no_obstacle(search, model, x):
    model.eval().classifier.train()
    model(x)
    assert search.found == [model]


def test_a_head_that_appears_later_is_found(search, model, x):
    head = model.classifier
    del model.classifier
    with pytest.raises(AttributeError):
        model(x)
    assert search.found == []
    model.classifier = head
    model(x)
    assert search.found == [model]


def test_a_module_with_a_head_of_another_width_is_passed_over(search, model, x):
    first = nn.ModuleDict({"classifier": nn.Linear(5, 2)})
    first.forward = first["classifier"].forward
    first(torch.randn(2, 5))
    assert search.found == []
    model(x)
    assert search.found == [model]


def test_a_recompute_in_backward_is_no_hit(search, model, x):
    y = checkpoint(model, x.requires_grad_(), use_reentrant=True)
    y.sum().backward()
    assert search.found == []
    checkpoint(model, x, use_reentrant=False)
    assert search.found == [model]


def test_another_process_finds_nothing(search, model, x, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    model(x)
    assert search.found == []


def test_after_fifty_training_calls_it_says_what_was_seen(search, golden):
    model, loss = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), nn.CrossEntropyLoss()
    for _ in range(60):
        assert len(search.said) == (search.count >= 50)
        loss(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long)).backward()
    assert search.count == 60  # the loss has no parameters
    golden(search.said[0])


def test_parts_that_the_script_calls_itself_are_named(search, golden):
    parts = [nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(6, 2)]
    for part in parts:
        part(torch.randn(2, part.in_features))
    golden(search.failure())


def test_a_model_that_is_gone_is_still_named(search, golden):
    model = Fused()
    model.classifier = nn.Linear(5, 2)
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 6))
    del model
    golden(search.failure())


def test_a_head_in_eval_mode_is_named(search, model, x, golden):
    model.classifier.eval()
    model(x)
    golden(search.failure())


def compiled_call(body):
    torch._dynamo.reset()
    torch.compile(body, backend="eager", fullgraph=True)(torch.randn(2, 6))


def test_compiled_code_has_no_break_for_the_hook(search):
    body = nn.Linear(6, 6)
    compiled_call(lambda x: body(x).relu())
    assert search.count == 0


@pytest.mark.negative_control
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_without_the_check_compiled_code_would_call_the_hook(search, monkeypatch):
    monkeypatch.setattr("cmiei_hooks.running.search.compiling", lambda: False)
    body = nn.Linear(6, 6)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled_call(lambda x: body(x).relu())
