"""Influence against a re-run of the head that is written out by hand here."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.nn.utils import prune, spectral_norm, weight_norm

import cmiei_hooks
from cmiei_hooks.counterfactual.rerun import Counterfactuals, measure
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.modalities import Partition

PARTITION = Partition(tuple(WIDTHS), ("r", "n", "t"))


def measured(
    module: nn.Module,
    *args: object,
    partition: Partition = PARTITION,
    drop: str = "zero",
    output: object = None,
    **kwargs: object,
) -> Counterfactuals:
    head = Head(("head",), (module,), partition, (output,), drop, "kl")
    return measure(head, partition.read(args, kwargs))


def by_hand(head: nn.Module, features: Tensor, drop: str = "zero") -> Tensor:
    """Influence ``[B, M]``: a copy of the head, its own random state, torch's own kl_div."""
    state = torch.get_rng_state()

    def logits(x: Tensor) -> Tensor:
        torch.set_rng_state(state)
        return copy.deepcopy(head)(x.clone()).detach()

    z, columns, start = logits(features), [], 0
    for width in WIDTHS:
        changed = features.clone()
        part = slice(start, start + width)
        changed[:, part] = 0 if drop == "zero" else features[:, part].mean(0)
        start += width
        p, q = log_softmax(z, -1), log_softmax(logits(changed), -1)
        columns.append(kl_div(q, p, reduction="none", log_target=True).sum(-1))
    torch.set_rng_state(state)
    return torch.stack(columns, dim=1)


class InPlaceHead(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Linear(12, 7))


HEADS = {
    "linear": lambda: nn.Linear(12, 7),
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(12, 7)),
    "mlp": lambda: nn.Sequential(nn.Linear(12, 9), nn.GELU(), nn.Dropout(0.2), nn.Linear(9, 7)),
    "in-place": InPlaceHead,
}


@pytest.mark.parametrize("drop", ["zero", "mean"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_influence_is_that_of_a_head_run_by_hand(head, drop):
    module, features = head(), torch.randn(16, 12) + 0.5
    before, state = features.clone(), torch.get_rng_state()
    expected = by_hand(module, features, drop)
    got = measured(module, features, drop=drop)
    torch.testing.assert_close(got.influence, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(features, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_modality_that_the_head_ignores_has_influence_exactly_zero():
    head = nn.Linear(12, 7)
    with torch.no_grad():
        head.weight[:, 4:7] = 0
    got = measured(head, torch.randn(8, 12))
    assert torch.equal(got.influence[:, 1], torch.zeros(8))
    assert (got.influence[:, [0, 2]] > 0).all()


def test_behind_a_training_batch_norm_without_bias_zero_and_mean_coincide():
    model = Fused(nn.Linear(12, 7))
    norm = nn.BatchNorm1d(12)
    features = norm(model.features(torch.randn(32, 6)))
    zero, mean = (measured(model.classifier, features, drop=d) for d in ("zero", "mean"))
    torch.testing.assert_close(zero.influence, mean.influence, rtol=1e-3, atol=1e-6)


def test_the_tensor_may_come_by_keyword_and_the_logits_in_a_tuple():
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 7)

        def forward(self, scale: float, *, x: Tensor) -> tuple[str, Tensor]:
            return "extra", self.linear(x) * scale

    head, features = Head(), torch.randn(8, 12)
    got = measured(head, 2.0, x=features, output=1)
    assert torch.equal(got.logits, head(2.0, x=features)[1])
    scaled = copy.deepcopy(head.linear)
    with torch.no_grad():
        scaled.weight *= 2
        scaled.bias *= 2
    torch.testing.assert_close(got.influence, by_hand(scaled, features), rtol=1e-4, atol=1e-6)


def test_modalities_along_tokens():
    """``dim=1``: [B, tokens, width], the head pools over the tokens."""

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.sum(1))

    head, tokens = Pool(), torch.randn(8, 5, 6)
    partition = Partition((2, 3), ("a", "b"), dim=1)
    got = measured(head, tokens, partition=partition)
    without_a = head.linear(tokens[:, 2:].sum(1))
    torch.testing.assert_close(got.counterfactual_logits[0], without_a, rtol=1e-5, atol=1e-6)
    expected = cmiei_hooks.functional.counterfactual_influence(
        head.linear(tokens.sum(1)),
        torch.stack([without_a, head.linear(tokens[:, :2].sum(1))]),
    )
    torch.testing.assert_close(got.influence, expected.detach(), rtol=1e-4, atol=1e-6)


class Drifting(nn.Linear):
    """Subtracts a running centre that every forward in training moves."""

    def __init__(self) -> None:
        super().__init__(12, 7)
        self.register_buffer("centre", torch.zeros(12))
        self.scale = torch.ones(1)

    def forward(self, x: Tensor) -> Tensor:
        self.centre.lerp_(x.detach().mean(0), 0.5)
        self.scale = self.scale * 1.1
        return super().forward((x - self.centre) * self.scale)


def test_every_run_begins_with_the_state_of_the_real_one():
    head = Drifting()
    with torch.no_grad():
        head.weight[:, 4:7] = 0
    got = measured(head, torch.randn(8, 12))
    assert torch.equal(got.influence[:, 1], torch.zeros(8))
    assert not head.centre.any()
    assert head.scale == 1


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
