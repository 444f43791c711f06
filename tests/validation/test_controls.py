"""Controls replace as many samples as they are told, and nothing else."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused, record_head_input
from torch import nn
from torch.utils.checkpoint import checkpoint
from trainings import train

from cmiei_hooks.settings import PRESETS
from cmiei_hooks.validation.arms import INERT as INERT_ARM
from cmiei_hooks.validation.arms import Arm
from cmiei_hooks.validation.controls import draw, draw_several
from cmiei_hooks.validation.recorder import Recorder

INERT = INERT_ARM.settings


def control(kind: str, counts: list[int], seed: int = 0, **settings):
    model = Fused()
    features = record_head_input(model)  # before the control: what it is given
    recorder = Recorder(Arm(kind, kind, INERT, "method"), {"k": 1, **settings}, counts, seed)
    recorder(model, head="classifier", splits=WIDTHS, sigma=0.0).set_epoch(0)
    given = record_head_input(model)
    return model, features, given


def test_as_many_distinct_samples_are_drawn_and_every_modality():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([draw(16, 3, 5, generator) for _ in range(200)])
    assert ((chosen >= 0).sum(1) == 5).all()
    assert chosen.unique().tolist() == [-1, 0, 1, 2]
    share = (chosen >= 0).float().mean(0)
    assert share.min() > 0.2  # of 5/16 = 0.31: every row has its turn
    assert (draw(4, 2, 9, generator) >= 0).all()  # never more than there are


def test_as_many_modalities_of_samples_are_drawn_but_never_all_of_a_sample():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([draw_several(16, 3, 20, generator) for _ in range(300)])
    assert (chosen.sum((1, 2)) == 20).all()
    assert not chosen.all(-1).any()
    # Of 300 steps each modality of each sample has its turn in 20/48; six deviations are 0.17.
    assert (chosen.double().mean(0) - 20 / 48).abs().max() < 0.17
    assert (chosen.double().mean((0, 1)) - 20 / 48).abs().max() < 0.03
    most = draw_several(16, 3, 99, generator)
    assert (most.sum(1) == 2).all()


def test_a_control_of_a_soft_selection_follows_it_step_by_step():
    soft = Recorder(Arm("selfpaced", settings={"preset": "selfpaced", "end_epoch": 4}), {})
    train(soft, 0, **{"warmup_epochs": 0})
    follower = Arm("selfpaced random", "random", {**PRESETS["selfpaced"], **INERT}, "selfpaced")
    random = Recorder(follower, {}, soft.counts)
    train(random, 0)
    assert random.counts == soft.counts
    assert max(soft.counts) > 16  # of 16 samples with three modalities each
    assert random.digest() != soft.digest()


@pytest.mark.parametrize("kind", ["random", "dropout"])
def test_only_whole_modalities_of_as_many_rows_change(kind):
    model, features, given = control(kind, [0, 7, 16])
    x = torch.randn(16, 6)
    for count in (0, 7, 16, 0):
        model(x)
        before, after = features[-1], given[-1]
        changed = (before != after).any(1)
        assert changed.sum() == count
        for row in changed.nonzero()[:, 0]:
            blocks = [
                m
                for m, (a, b) in enumerate(
                    zip(before[row].split(WIDTHS), after[row].split(WIDTHS), strict=True)
                )
                if (a != b).any()
            ]
            assert len(blocks) == 1
            new = after[row].split(WIDTHS)[blocks[0]]
            mean = before.mean(0).split(WIDTHS)[blocks[0]]
            torch.testing.assert_close(new, mean if kind == "random" else torch.zeros_like(new))


def test_where_the_method_decides_for_the_batch_so_does_the_control():
    model, features, given = control("random", [16] * 20, sample_level=False)
    chosen = set()
    for _ in range(20):
        model(torch.randn(16, 6))
        changed = [bool(b.any()) for b in (features[-1] != given[-1]).any(0).split(WIDTHS)]
        assert sum(changed) == 1
        chosen.add(changed.index(True))
    assert chosen == {0, 1, 2}


def test_a_chain_may_be_controlled_from_its_first_step():
    torch.manual_seed(0)
    model = Fused(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)))
    recorder = Recorder(Arm("random", "random", INERT, "strong"), {"k": 1}, [8] * 3)
    handle = recorder(model, head=["classifier.0", "classifier.1"], splits=WIDTHS)
    handle.set_epoch(0)
    for _ in range(3):
        model(torch.randn(16, 6)).sum().backward()
    assert handle.step == 3


@pytest.mark.parametrize("kind", ["random", "dropout"])
def test_a_recompute_of_checkpointing_replaces_the_same(kind):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Fused(nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 7)))
        recorder = Recorder(Arm(kind, kind, INERT, "method"), {"k": 1}, [8, 5])
        recorder(model, head="classifier", splits=WIDTHS).set_epoch(0)
        x = torch.randn(16, 6, requires_grad=True)
        for _ in range(2):
            out = checkpoint(model, x, use_reentrant=False) if recompute else model(x)
            out.square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_in_place_every_later_consumer_sees_a_control_too():
    model, _, given = control("random", [7], inplace=True)
    held, concatenated = [], model.features
    model.features = lambda x: (held.append(concatenated(x)), held[-1])[1]
    model(torch.randn(16, 6))
    assert torch.equal(held[0], given[-1])


def test_nothing_is_replaced_in_eval_mode():
    model, features, given = control("random", [16] * 3)
    model.eval()(torch.randn(16, 6))
    assert torch.equal(features[-1], given[-1])


def test_the_global_generator_is_left_alone_and_the_seed_decides():
    inputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(3)
        model, _, given = control("random", [8], seed)
        x = torch.randn(16, 6)
        state = torch.get_rng_state()
        model(x)
        assert torch.equal(state, torch.get_rng_state())
        inputs.append(given[-1])
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])


def test_a_control_follows_the_method_step_by_step():
    method = Recorder(Arm("method"), {"k": 1})
    train(method, 0)
    follower = Recorder(Arm("random", "random", INERT, "method"), {"k": 1}, method.counts)
    train(follower, 0)
    follower.finish()
    assert any(method.counts)
    assert follower.counts == method.counts
    method.finish()
    ratios, followed = ([e["C_MIEI_Ratio"] for e in r.epochs] for r in (method, follower))
    assert followed == ratios
    assert follower.digest() != method.digest()
