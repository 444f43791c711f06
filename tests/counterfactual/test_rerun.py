"""Weights that hooks of torch compute are those of the real call in a re-run."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

import cmiei_hooks


def masked(module: nn.Linear) -> nn.Linear:
    prune.random_unstructured(module, "weight", amount=0.3)
    return module


def train_a_step(module: nn.Linear) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))


WEIGHT_HOOKS = {"pruning": masked, "weight norm": weight_norm, "spectral norm": spectral_norm}


def measured_with_a_hook_behind(norm, x: Tensor) -> tuple[Tensor, Tensor, Fused, nn.Module]:
    """The influence, that of copies run by hand, the model, and its head before the call."""
    model = Fused()
    options = {"k": 1, "warmup_epochs": 0, "p_max": 0.0, "log": False}
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **options)
    norm(model.classifier)
    model(x)
    train_a_step(model.classifier)
    if hasattr(model.classifier, "weight"):
        model.classifier.weight = model.classifier.weight.detach()  # to be copied
    twin = copy.deepcopy(model.classifier)
    model(x)
    logits = []
    for m in (None, 0, 1, 2):
        blocks = [b.detach() for b in model.features(x).split(WIDTHS, 1)]
        if m is not None:
            blocks[m] = torch.zeros_like(blocks[m])
        logits.append(copy.deepcopy(twin)(torch.cat(blocks, 1)).detach())
    right = cmiei_hooks.functional.counterfactual_influence(logits[0], torch.stack(logits[1:]))
    return handle.last.influence, right, model, twin


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", WEIGHT_HOOKS.values(), ids=WEIGHT_HOOKS)
def test_a_weight_hook_of_torch_behind_ours_has_run_in_the_re_run(norm, x):
    influence, right, model, _ = measured_with_a_hook_behind(norm, x)
    torch.testing.assert_close(influence, right, rtol=1e-4, atol=1e-6)
    assert model.classifier.weight.grad_fn is not None  # that of the real call, with its graph


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_its_power_iteration_moves_once_a_call(x):
    *_, model, twin = measured_with_a_hook_behind(spectral_norm, x)
    before = twin.weight_u.clone()
    twin(torch.randn(16, 12))
    assert not torch.equal(before, twin.weight_u)
    assert torch.equal(model.classifier.weight_u, twin.weight_u)


@pytest.mark.negative_control
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", WEIGHT_HOOKS.values(), ids=WEIGHT_HOOKS)
def test_without_it_the_weight_of_the_call_before_would_be_used(norm, x, monkeypatch):
    monkeypatch.setattr("cmiei_hooks.counterfactual.rerun.is_weight_hook", lambda hook: False)
    influence, right, *_ = measured_with_a_hook_behind(norm, x)
    assert (influence - right).abs().max() > 1e-3
