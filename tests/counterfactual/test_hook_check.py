"""The user's forward hooks on the head: observers run once, hooks that change it are refused."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, Handle, audit
from cmiei_hooks.counterfactual.hook_check import _Hook
from cmiei_hooks.functional import counterfactual_influence


def attach(model: nn.Module, **settings) -> Handle:
    options = {
        "head": "classifier",
        "splits": WIDTHS,
        "k": 1,
        "warmup_epochs": 0,
        "p_max": 0.0,
        "log": False,
    }
    return cmiei_hooks.attach(model, **(options | settings))


class Sees:
    """Hooks that observe, in the forms that hooks have."""

    def __init__(self) -> None:
        self.seen = []

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.seen.append(output)

    def method(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        self.seen.append(output)
        return output


OBSERVERS = {
    "object": lambda sees: sees,
    "method": lambda sees: sees.method,
    "partial": lambda sees: partial(sees.method),
    "function": lambda sees: lambda module, args, output: sees.seen.append(output),
}


@pytest.mark.parametrize("when", ["before", "after", "between the calls"])
@pytest.mark.parametrize("hook", OBSERVERS.values(), ids=OBSERVERS)
def test_a_hook_that_observes_runs_once_a_call_and_nothing_stays(hook, when, x):
    model, sees = Fused(), Sees()
    if when == "before":
        model.classifier.register_forward_hook(hook(sees))
    handle = attach(model)
    if when == "between the calls":
        model(x)
    if when != "before":
        model.classifier.register_forward_hook(hook(sees))
    for calls in (1, 2, 3):
        model(x)
        assert len(sees.seen) == calls
        assert len(model.classifier._forward_hooks) == 1
    assert handle.last.influence.isfinite().all()
    handle.remove()
    assert len(model.classifier._forward_hooks) == 1


def test_a_hook_that_only_converts_is_no_change(x):
    model, sees = Fused(), Sees()
    model.classifier.register_forward_hook(lambda m, a, output: output.double())
    model.classifier.register_forward_hook(sees.method)
    handle = attach(model)
    model(x)
    assert handle.step == len(sees.seen) == 1


def scaled(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    return output * 5


def scaled_in_place(module: nn.Module, args: tuple, output: Tensor) -> None:
    output.detach().mul_(5)


def scaled_with_keywords(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
    return output * 5


CHANGING = {
    "returned": (scaled, {}),
    "in place": (scaled_in_place, {}),
    "with keywords": (scaled_with_keywords, {"with_kwargs": True}),
    "always called": (scaled, {"always_call": True}),
    "in front": (scaled, {"prepend": True}),
}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "after a call"])
@pytest.mark.parametrize(("hook", "options"), CHANGING.values(), ids=CHANGING)
def test_a_hook_that_changes_the_logits_is_refused_in_every_call(hook, options, later, x, golden):
    model = Fused()
    handle = attach(model)
    if later:
        model(x)
    model.classifier.register_forward_hook(hook, **options)
    for _ in range(2):
        with pytest.raises(CMIEIError) as error:
            model(x)
    golden(error.value)
    handle.remove()
    assert len(model.classifier._forward_hooks) == 1
    model(x)


def test_in_eval_mode_and_suspended_nothing_is_refused(x):
    model = Fused()
    model.classifier.register_forward_hook(scaled)
    handle = attach(model)
    with handle.suspend():
        model(x)
    model.eval()
    model(x)
    model.train()
    with pytest.raises(CMIEIError):
        model(x)


def test_an_audit_is_refused_too(x):
    model = Fused()
    model.classifier.register_forward_hook(scaled)
    with pytest.raises(CMIEIError):
        audit(model, [x], head="classifier", splits=WIDTHS)
    assert len(model.classifier._forward_hooks) == 1


def by_hand(model: Fused, x: Tensor) -> Tensor:
    features = model.features(x)
    variants = [features]
    for m in range(len(WIDTHS)):
        blocks = list(features.split(WIDTHS, 1))
        blocks[m] = torch.zeros_like(blocks[m])
        variants.append(torch.cat(blocks, 1))
    with torch.no_grad():
        logits = torch.stack([model.classifier(v) for v in variants])
    return counterfactual_influence(logits[0], logits[1:])


def test_the_remedy_gives_the_right_influence(x):
    """The head one level up: the hook is inside of it."""
    model = Fused(nn.Sequential(nn.Linear(12, 7)))
    model.classifier[0].register_forward_hook(scaled)
    handle = attach(model)
    model(x)
    torch.testing.assert_close(handle.last.influence, by_hand(model, x), rtol=1e-4, atol=1e-6)


@pytest.mark.negative_control
def test_without_the_check_the_influence_would_be_another(x, monkeypatch):
    monkeypatch.setattr("cmiei_hooks.counterfactual.hook_check._of_user", lambda hook: False)
    model = Fused()
    model.classifier.register_forward_hook(scaled)
    handle = attach(model)
    model(x)
    measured = handle.last.influence
    assert by_hand(model, x).mean() > 4 * measured.mean()


class Raises(nn.Linear):
    """Fails in the real call and not in re-runs, which have no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise OSError("disk")
        return super().forward(x)


def test_nothing_stays_when_the_head_raises(x):
    model = Fused(Raises(12, 7))
    handle = attach(model)
    model.classifier.register_forward_hook(Sees())
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            model(x)
    handle.remove()
    assert len(model.classifier._forward_hooks) == 1


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_checks_nothing(make_copy, x):
    model = Fused()
    model.classifier.register_forward_hook(scaled)
    handle = attach(model)
    assert sum(isinstance(h, _Hook) for h in model.classifier._forward_hooks.values()) == 2
    other = make_copy(model)
    other(x)
    handle.remove()
    assert len(model.classifier._forward_hooks) == 1


def test_a_compiled_model_with_a_hook_is_checked(x):
    model = Fused()
    model.classifier.register_forward_hook(scaled)
    attach(model)
    with pytest.raises(CMIEIError):
        torch.compile(model, backend="eager")(x)


def test_the_check_gives_up_where_no_call_shows_the_effect(x, monkeypatch):
    """As in compiled code that runs no hooks that were added later."""
    monkeypatch.setattr("cmiei_hooks.counterfactual.hook_check._Hook.__call__", lambda *_: None)
    model = Fused()
    handle = attach(model)
    model.classifier.register_forward_hook(scaled)
    for _ in range(10):
        model(x)
    assert len(model.classifier._forward_hooks) == 1
    assert not handle._step.chain.open


def test_hooks_of_torch_are_not_watched():
    model = Fused()
    model.classifier.register_forward_hook(torch.nn.utils.parametrize.is_parametrized)
    handle = attach(model)
    assert not handle._step.chain.open
    handle.remove()
