"""Controls replace as many samples as they are told, and nothing else."""

from __future__ import annotations

import pytest
import torch
from conftest import WIDTHS, Fused, record_head_input
from trainings import train

import cmiei_hooks
from cmiei_hooks.validation.arms import Arm, arms_of
from cmiei_hooks.validation.controls import drawn
from cmiei_hooks.validation.recording import Recorder

INERT = arms_of(cmiei_hooks.Config(enabled=True), 10)[0].settings


def control(kind: str, counts: list[int], seed: int = 0):
    model = Fused()
    features = record_head_input(model)  # before the control: what it is given
    recorder = Recorder(Arm(kind, kind, INERT, "method"), {"k": 1}, counts, seed)
    recorder(model, head="classifier", splits=WIDTHS, sigma=0.0).set_epoch(0)
    given = record_head_input(model)
    return model, features, given


def test_as_many_distinct_samples_are_drawn_and_every_modality():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([drawn(16, 3, 5, generator) for _ in range(200)])
    assert ((chosen >= 0).sum(1) == 5).all()
    assert chosen.unique().tolist() == [-1, 0, 1, 2]
    share = (chosen >= 0).float().mean(0)
    assert share.min() > 0.2  # of 5/16 = 0.31: every row has its turn
    assert (drawn(4, 2, 9, generator) >= 0).all()  # never more than there are


@pytest.mark.parametrize("kind", ["random", "dropout"])
def test_only_whole_modalities_of_so_many_rows_change(kind):
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
    follower.note()
    assert any(method.counts)
    assert follower.counts == method.counts
    assert all(epoch["C_MIEI_Ratio"] == 0 for epoch in follower.epochs)
    assert follower.digest() != method.digest()
