"""Influence against a re-run of the head that is written out by hand here."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

import cmiei_hooks
from cmiei_hooks.counterfactual.influence import Counterfactuals, estimate
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

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
    return estimate(head, partition.read(args, kwargs))


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
