"""The logits with modalities replaced: a Linear taken apart is the Linear run again."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import WIDTHS
from torch import Tensor, nn

from cmiei_hooks.counterfactual import linear_parts as module
from cmiei_hooks.counterfactual import reruns, variants_of
from cmiei_hooks.counterfactual.linear_parts import LinearParts, linear_parts
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

PARTITION = Partition(tuple(WIDTHS), ("r", "n", "t"))
MODALITIES = range(3)


def head_of(*links: nn.Module, partition: Partition = PARTITION) -> Head:
    names = tuple(f"link{i}" for i in range(len(links)))
    return Head(names, links, partition, (None,) * len(links), "zero", "kl")


def norm(training: bool = False, **options) -> nn.Module:
    one = nn.BatchNorm1d(12, **options).train(training)
    nn.init.normal_(one.weight)
    nn.init.normal_(one.bias)
    if one.running_mean is not None:
        one.running_mean.normal_()
        one.running_var.uniform_(0.5, 2)
    return one


LINEAR = {
    "linear": lambda: [nn.Linear(12, 7)],
    "without bias": lambda: [nn.Linear(12, 7, bias=False)],
    "a norm before": lambda: [norm(), nn.Linear(12, 7)],
    "in a Sequential": lambda: [nn.Sequential(norm(), norm(), nn.Linear(12, 7))],
    "statistics of the batch": lambda: [norm(training=True), nn.Linear(12, 7)],
    "no running statistics": lambda: [norm(track_running_stats=False), nn.Linear(12, 7)],
}
OTHERS = {
    "mlp": lambda: [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7)],
    "a last layer": lambda: [nn.Linear(12, 7), nn.Tanh()],
    "dropout": lambda: [nn.Dropout(), nn.Linear(12, 7)],
}


def flipped(features: Tensor) -> Tensor:
    return features.flip(1)


CHANGES = [torch.zeros_like, torch.ones_like, flipped]


@pytest.mark.parametrize("make", [*LINEAR.values(), *OTHERS.values()], ids=[*LINEAR, *OTHERS])
def test_every_combination_is_that_of_the_head_run_again(make):
    head = head_of(*(link.double() for link in make()))
    captured = PARTITION.read((torch.randn(16, 12, dtype=torch.float64) + 0.3,), {})
    buffers = {name: value.clone() for name, value in head.whole.named_buffers()}
    with reruns(head, captured) as logits_with, variants_of(head, captured) as one:
        assert isinstance(one, LinearParts) == (make in LINEAR.values())
        parts = [[one.part(m, change) for change in (None, *CHANGES)] for m in MODALITIES]
        for which in itertools.product(range(4), repeat=3):
            changes = {m: CHANGES[k - 1] for m, k in enumerate(which) if k}
            got = one.logits([parts[m][k] for m, k in enumerate(which)])
            torch.testing.assert_close(got, logits_with(changes), rtol=1e-12, atol=1e-12)
        for m in MODALITIES:
            kept = [parts[0][1], parts[1][0], parts[2][2]]
            each = one.logits_of_each(kept, m, CHANGES)
            for change, got in zip(CHANGES, each, strict=True):
                changes = {0: torch.zeros_like, 2: torch.ones_like, m: change}
                torch.testing.assert_close(got, logits_with(changes), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, buffers[name]) for name, value in head.whole.named_buffers())


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_a_modality_replaced_by_itself_changes_nothing_to_the_bit(make):
    head, x = head_of(*make()), torch.randn(16, 12)
    with variants_of(head, PARTITION.read((x,), {})) as one:
        parts = [one.part(m) for m in MODALITIES]
        complete = one.logits(parts)
        for m in MODALITIES:
            same = [*parts[:m], one.part(m, torch.clone), *parts[m + 1 :]]
            assert torch.equal(one.logits(same), complete)
            (each,) = one.logits_of_each(parts, m, [torch.clone])
            torch.testing.assert_close(each, complete, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_where_it_is(broken):
    head, x = head_of(nn.Linear(12, 7)), torch.randn(4, 12)
    x[1, 5] = broken  # of the second modality
    with torch.no_grad():
        head.links[0].bias[2] = -math.inf  # a masked class
    captured = PARTITION.read((x,), {})
    with reruns(head, captured) as logits_with, variants_of(head, captured) as one:
        for changes in ({}, {1: torch.zeros_like}, {0: torch.zeros_like}):
            got = one.logits([one.part(m, changes.get(m)) for m in MODALITIES])
            expected = logits_with(changes)
            torch.testing.assert_close(got, expected, equal_nan=True)
            assert got.isfinite().any()


def test_nothing_is_recorded_and_no_tensor_of_the_call_is_written_into():
    head, x = head_of(nn.Linear(12, 7)), torch.randn(16, 12, requires_grad=True)
    before = x.detach().clone()
    with variants_of(head, PARTITION.read((x,), {})) as one:
        logits = one.logits([one.part(0), one.part(1, torch.zeros_like), one.part(2, flipped)])
    assert not logits.requires_grad
    assert torch.equal(x, before)


def hooked(linear: nn.Linear) -> nn.Linear:
    linear.register_forward_hook(lambda *_: None)
    return linear


class Own(nn.Linear):
    """A Linear that may compute anything."""


@pytest.mark.parametrize(
    "head",
    [
        head_of(hooked(nn.Linear(12, 7))),
        head_of(Own(12, 7)),
        head_of(nn.Linear(12, 7).double()),
        head_of(nn.Linear(12, 1)),
        head_of(nn.LayerNorm(12), nn.Linear(12, 7)),
    ],
    ids=["hooked", "a subclass", "another type", "one logit", "a norm over the columns"],
)
def test_any_other_head_is_run_again(head):
    with linear_parts(head, PARTITION.read((torch.randn(16, 12),), {})) as parts:
        assert parts is None


def test_under_autocast_the_head_is_run_again():
    captured = PARTITION.read((torch.randn(16, 12),), {})
    head = head_of(nn.Linear(12, 7))
    with torch.autocast("cpu", torch.bfloat16), linear_parts(head, captured) as parts:
        assert parts is None


@pytest.mark.negative_control
def test_with_the_norm_left_out_the_logits_are_others(monkeypatch):
    monkeypatch.setattr(
        module.LinearParts, "_norms", property(lambda _: [], lambda *_: None), False
    )
    head = head_of(norm(), nn.Linear(12, 7))
    captured = PARTITION.read((torch.randn(16, 12),), {})
    with reruns(head, captured) as logits_with, variants_of(head, captured) as one:
        got = one.logits([one.part(m) for m in MODALITIES])
        assert not torch.allclose(got, logits_with({}), atol=1e-2)
