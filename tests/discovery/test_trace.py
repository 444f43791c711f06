"""A run that is recorded leaves nothing behind, and repeats itself."""

from __future__ import annotations

import random

import pytest
import torch
from fusion_models import SPLITS, B, ReID, Stateful, best, inputs
from torch import nn

import cmiei_hooks
from cmiei_hooks import discover


def test_functional_dropout_is_no_noise():
    class Drops(ReID):
        def encode(self, *xs):
            return [nn.functional.dropout(x, 0.5, self.training) for x in super().encode(*xs)]

    assert best(discover(Drops(), *inputs())) == {"head": "classifier", **SPLITS}


def test_nothing_is_left_behind():
    model, xs = Stateful(), inputs()
    model.bottleneck.eval()
    model.encoders["r"].weight.requires_grad_(False)
    handle = cmiei_hooks.attach(model, head="classifier", splits=[4, 3, 5], log=False)
    handle.set_epoch(0)
    logits, _ = model(*[x.clone() for x in xs])
    logits.sum().backward()

    def state() -> list[object]:
        tensors = [*model.parameters(), *model.buffers(), *xs]
        tensors += [p.grad for p in model.parameters() if p.grad is not None]
        hooks = [
            (dict(m._forward_hooks), dict(m._forward_pre_hooks), m.training)
            for m in model.modules()
        ]
        versions = [(id(x), x._version, x.tolist(), x.requires_grad) for x in tensors]
        rng = (torch.get_rng_state().tolist(), random.getstate())
        kept = (model.calls, list(map(id, model.losses)), handle.step, torch.is_grad_enabled())
        return [versions, hooks, rng, kept]

    before = state()
    report = discover(model, *xs)
    assert report.candidates[0].head == ("classifier",)
    assert state() == before


def test_nothing_is_left_behind_by_a_model_that_fails():
    class Fails(ReID):
        def forward(self, r, n, t):
            super().forward(r, n, t)
            raise RuntimeError("no")

    model = Fails()
    with pytest.raises(RuntimeError, match="no"):
        discover(model, *inputs())
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_inside_of_torch_do_no_harm():
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1)

        def forward(self, text):
            padding = torch.zeros(text.shape[:2], dtype=torch.bool)
            padding[::2, 3:] = True
            return self.encoder(text, src_key_padding_mask=padding)[:, 0]

    model = ReID()
    model.encoders["t"] = nn.Sequential(Text(), nn.Linear(6, 5))
    report = discover(model, *inputs(2), torch.randn(B, 5, 6))
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]
