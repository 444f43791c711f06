"""The training branch without anything that moves or is random."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cmiei_hooks import CMIEIWarning, audit
from cmiei_hooks.fusion.module_mode import eval_mode, training_branch, training_mode


class DropPath(nn.Module):
    """Stochastic depth as other libraries write it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1) > 0.5) if self.training else x


class MyBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean += x.mean((0, 1))
        return x - self.mean


class BN1(nn.BatchNorm1d):
    """A subclass that is not called after what it is."""


class Margin(nn.Module):
    """A leaf with a branch of its own, as margin losses have."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 1 if self.training else x


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.parts = nn.Sequential(
            BN1(3),
            nn.InstanceNorm1d(3, track_running_stats=True),
            nn.Dropout(0.5),
            nn.AlphaDropout(0.5),
            nn.RReLU(),
            DropPath(),
            MyBatchNorm(),
        )
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
        self.recurrent = nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True)
        self.margin = Margin()
        self.classifier = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts(self.encoder(x)[:, None].repeat(1, 3, 1))
        x = self.layer(self.recurrent(self.attention(x, x, x)[0])[0]).mean(1)
        return self.classifier(self.margin(x)) if self.training else x


def odd_flags(model: nn.Module) -> list[bool]:
    """A model that is partly frozen."""
    for i, module in enumerate(model.modules()):
        module.training = i % 3 > 0
    return [module.training for module in model.modules()]


def instance_norm_writes_in_eval_mode() -> bool:
    """Whether it writes the same values back into its buffers, as torch 2.4 does."""
    norm = nn.InstanceNorm1d(2, track_running_stats=True).eval()
    before = norm.running_mean._version
    norm(torch.randn(3, 2, 4))
    return norm.running_mean._version != before


def test_it_takes_the_branch_and_nothing_moves_or_is_random():
    model, x = Branching(), torch.randn(6, 4)
    flags, buffers = odd_flags(model), {k: v.clone() for k, v in model.named_buffers()}
    versions = [b._version for b in model.buffers()]
    state = torch.get_rng_state()
    with training_branch(model):
        one, two = model(x), model(x)
        assert model.margin.training
        assert model.training
    assert one.shape == (6, 5)
    assert torch.equal(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(buffers[k], v) for k, v in model.named_buffers())
    if not instance_norm_writes_in_eval_mode():
        assert versions == [b._version for b in model.buffers()]
    assert flags == [module.training for module in model.modules()]


@pytest.mark.negative_control
def test_in_training_mode_itself_it_moves_and_is_random():
    model, x = Branching(), torch.randn(6, 4)
    versions = [b._version for b in model.buffers()]
    with training_mode(model):
        assert not torch.equal(model(x), model(x))
    assert versions != [b._version for b in model.buffers()]


@pytest.mark.parametrize("mode", [eval_mode, training_mode, training_branch])
def test_the_flags_come_back_when_something_fails(mode):
    model = Branching()
    flags = odd_flags(model)
    with pytest.raises(OSError, match="disk"), mode(model):
        raise OSError("disk")
    assert flags == [module.training for module in model.modules()]


def test_a_wrapper_of_torch_takes_the_branch_of_what_it_holds():
    model = Branching()
    with training_branch(nn.Sequential(nn.Sequential(model), nn.Identity())):
        assert model.training


class DrawsItself(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(nn.functional.dropout(self.encoder(x), 0.5, self.training))


def test_an_audit_says_that_it_could_not_keep_a_model_from_drawing(golden):
    where = {"head": "classifier", "splits": [2, 2]}
    with pytest.warns(CMIEIWarning) as warned:
        audit(DrawsItself(), [torch.randn(6, 4)], **where, in_training_branch=True)
    golden(warned[0].message)
    audit(DrawsItself(), [torch.randn(6, 4)], **where)
