"""What a user would pick in place of the method, against the definitions written by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from heads import SHAPES
from helpers import ROOT, WIDTHS, Fused, record_head_input
from torch import nn
from torch.utils.checkpoint import checkpoint
from trainings import train

import cmiei_hooks
from cmiei_hooks.errors import ValidationError
from cmiei_hooks.training.substitution import noise_generator
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.peers import ModalityDropout, RandomModalities, RandomModality
from cmiei_hooks.validation.recorder import Recorder

COMMON = {"warmup_epochs": 0, "log": False, "seed": 3}


def attached(model: nn.Module, make, head="classifier", splits=WIDTHS, **settings):
    return cmiei_hooks.attach(model, head, splits, strategy=make, **COMMON | settings)


def watched(make, **settings):
    """A model with the peer, and what its head was and is given."""
    torch.manual_seed(0)
    model = Fused()
    features = record_head_input(model)
    attached(model, make, **settings)
    return model, features, record_head_input(model)


def blocks(tensor: torch.Tensor) -> torch.Tensor:
    """bool ``[B, M]``: in which blocks there is a True."""
    return torch.stack([part.any(1) for part in tensor.split(WIDTHS, 1)], 1)


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_dropout_sets_modalities_to_zero_at_its_rate_and_never_all_of_a_sample(rate):
    model, features, given = watched(lambda c, n: ModalityDropout(c, n, rate))
    lost = []
    for _ in range(50):
        model(torch.randn(64, 6))
        changed = given[-1] != features[-1]
        lost.append(blocks(changed))
        columns = lost[-1].repeat_interleave(torch.tensor(WIDTHS), 1)
        assert torch.equal(given[-1], features[-1].masked_fill(columns, 0))
    lost = torch.cat(lost)
    assert not lost.all(1).any()
    # Each of three modalities on its own; of those that lose all, a third each is kept.
    expected = rate - rate**3 / 3
    deviation = (expected * (1 - expected) / len(lost)) ** 0.5
    assert (lost.double().mean(0) - expected).abs().max() < 5 * deviation
    both = (lost[:, 0] & lost[:, 1]).double().mean()
    independent = rate**2 * (1 - rate) + rate**3 / 3
    assert abs(both - independent) < 5 * (independent / len(lost)) ** 0.5


def test_random_modalities_become_mean_plus_noise_of_their_own():
    model, features, given = watched(
        lambda c, n: RandomModalities(c, n, 0.5), sigma=1.0, sigma_unit="std"
    )
    model(torch.randn(64, 6))
    before, after = features[0].double(), given[0].double()
    lost = blocks(before != after)
    assert 0.3 < lost.double().mean() < 0.6
    noise = torch.empty(64, sum(WIDTHS)).normal_(
        generator=noise_generator(torch.device("cpu"), 3, 0, "classifier", 0)
    )
    columns = lost.repeat_interleave(torch.tensor(WIDTHS), 1)
    numbers = before.mean(0) + before.std(0, correction=0) * noise.double()
    torch.testing.assert_close(after, torch.where(columns, numbers, before), rtol=1e-5, atol=1e-5)


def test_one_random_modality_of_every_sample_in_every_step():
    model, features, given = watched(RandomModality, k=3)
    seen = []
    for _ in range(30):
        model(torch.randn(64, 6))
        seen.append(blocks(features[-1] != given[-1]))
    seen = torch.stack(seen)
    assert (seen.sum(-1) == 1).all()
    assert (seen.double().mean((0, 1)) - 1 / 3).abs().max() < 0.06
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    "make", [RandomModality, lambda c, n: ModalityDropout(c, n, 0.3)], ids=["noise", "dropout"]
)
def test_a_peer_obeys_the_warm_up_and_the_end_and_a_recompute_repeats_it(make):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Fused(nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 7)))
        features = record_head_input(model)
        handle = attached(model, make, warmup_epochs=1, end_epoch=2)
        given, x = record_head_input(model), torch.randn(16, 6, requires_grad=True)
        acts = []
        for epoch in range(3):
            handle.set_epoch(epoch)
            out = checkpoint(model, x, use_reentrant=False) if recompute else model(x)
            acts.append(not torch.equal(features[-1], given[-1]))
            out.square().mean().backward()
        assert acts == [False, True, False]
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropped_token_ids_are_the_fill_value_and_not_zero():
    shape = SHAPES["the whole model, token ids"]
    model, (text, image) = shape.make(), shape.batch()
    where = {key: value for key, value in shape.where.items() if key != "fill"}
    handle = cmiei_hooks.attach(
        model,
        **where,
        fill={"text": 9},
        k=1,
        strategy=lambda c, n: ModalityDropout(c, n, 0.5),
        **COMMON,
    )
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args))
    model(text.clone(), image)
    chosen = handle.last.substituted
    rows = chosen[:, handle.names.index("text")]
    assert rows.any()
    assert torch.equal(seen[0][0], torch.where(rows[:, None], 9, text))
    other = chosen[:, 1 - handle.names.index("text")]
    assert torch.equal(seen[0][1], image.masked_fill(other.view(-1, *[1] * (image.dim() - 1)), 0))


def test_an_arm_with_a_strategy_of_its_own_trains_with_it():
    own = Arm("mine", strategy="peers_of_a_user:every_first", options={})
    recorder = Recorder(own, {"k": 2})
    train(recorder, 0, epochs=1)
    assert recorder.counts == [16] * 6
    peer = Arm(
        "dropout 50 %",
        settings={"warmup_epochs": 0},
        strategy="cmiei_hooks.validation.peers:ModalityDropout",
        options={"rate": 0.5},
    )
    recorder = Recorder(peer, {"k": 2})
    train(recorder, 0, epochs=1)
    assert all(10 < count < 33 for count in recorder.counts)  # of 48 modalities of samples


def test_the_strategy_in_the_documentation_does_what_it_says():
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (code,) = (block for block in blocks if "class DropFirst" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    model, features, given = watched(names["DropFirst"])
    model(torch.randn(16, 6))
    expected = features[0].clone()
    expected[::2, : WIDTHS[0]] = 0
    assert torch.equal(given[0], expected)


@pytest.mark.negative_control
def test_what_is_not_a_strategy_is_refused(golden):
    with pytest.raises(ValidationError) as refusal:
        train(Recorder(Arm("mine", strategy="peers_of_a_user:nothing"), {}), 0)
    golden(refusal.value)
