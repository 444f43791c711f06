"""Every shape of a real fusion head: attach, train with substitution, re-run by hand, detach."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from heads import SHAPES, Shape
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

import cmiei_hooks
from cmiei_hooks import audit, verify

ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "p_max": 0.5, "log": False}

EVERY = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [t for item in items for t in tensors(item)]


def first_link(model: nn.Module, shape: Shape) -> nn.Module:
    head = shape.where["head"]
    return model.get_submodule(head if isinstance(head, str) else head[0])


def divergence(z: Tensor, without: Tensor, measure: str) -> Tensor:
    """``[B]``, from formulas that are not those of the tool."""
    if measure == "kl":
        p, q = log_softmax(z, -1), log_softmax(without, -1)
        return kl_div(q, p, reduction="none", log_target=True).sum(-1)
    if measure == "bernoulli":
        p, q = torch.sigmoid(z.double()), torch.sigmoid(without.double())
        return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1).float()
    if measure == "squared":
        return (z - without).pow(2).sum(-1)
    rows = []
    for before, after in zip(z.tolist(), without.tolist(), strict=True):
        target = before.index(max(before))
        others = [i for i in range(len(before)) if i != target]
        margins = [row[target] - max(row[i] for i in others) for row in (before, after)]
        rows.append(max(0.0, margins[0] - margins[1]))
    return torch.tensor(rows)


class Recorder:
    """What the first link is called with, before the tool and after it, and the state then."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        self.model, self.shape, self.twin = model, shape, copy.deepcopy(model)
        self.link = first_link(model, shape)
        self.hooks = [self.link.register_forward_pre_hook(self.before, with_kwargs=True)]

    def watch_the_end(self) -> None:
        self.hooks.append(self.link.register_forward_pre_hook(self.after, with_kwargs=True))

    def before(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        self.given = detached((args, kwargs))  # the caller may fill its containers later
        self.original = copy.deepcopy([t.detach() for t in tensors((args, kwargs))])
        self.state = copy.deepcopy(self.model.state_dict())
        self.random = torch.get_rng_state()

    def after(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        self.received = (args, kwargs)

    def by_hand(self, modality: int | None) -> Tensor:
        """The logits of a copy of the head, with one modality set to zero by hand."""
        kept = torch.get_rng_state()
        self.twin.load_state_dict(self.state)
        args, kwargs = copy.deepcopy(self.given)
        if modality is not None:
            for piece in self.shape.pieces(*args, **kwargs)[modality]:
                piece.fill_(0 if piece.is_floating_point() else self.shape.fill)
        torch.set_rng_state(self.random)
        logits = self.shape.head(self.twin, *args, **kwargs).detach()
        torch.set_rng_state(kept)
        return logits

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


def detached(value: Any) -> Any:
    """The same tensors, in containers of their own."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {k: detached(v) for k, v in value.items()}
    return type(value)(detached(v) for v in value) if isinstance(value, (tuple, list)) else value


@EVERY
@pytest.mark.filterwarnings("error")
def test_attach_train_with_substitution_re_run_by_hand_detach(shape):
    model = shape.make()
    keys = list(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(model, shape)
    handle = cmiei_hooks.attach(model, **shape.where, **ALWAYS)
    recorder.watch_the_end()
    for step in range(2):
        optimizer.zero_grad()
        returned = model(*shape.batch())
        influence = handle.last.influence
        z = recorder.by_hand(None)
        expected = [
            divergence(z, recorder.by_hand(m), handle.config.measure)
            for m in range(len(handle.names))
        ]
        torch.testing.assert_close(influence, torch.stack(expected, 1), rtol=1e-3, atol=1e-6)
        assert (influence > 0).any(0).all(), "a modality that never counts shows nothing"

        # Only the chosen modality of the chosen rows is another; the caller's tensors are not.
        args, kwargs = recorder.given
        assert all(map(torch.equal, tensors((args, kwargs)), recorder.original))
        old, new = (
            shape.pieces(*args, **kwargs),
            shape.pieces(*recorder.received[0], **recorder.received[1]),
        )
        chosen = handle.last.substituted
        assert (chosen >= 0).sum() == len(chosen) // 2
        others = torch.ones(len(chosen), len(old), dtype=torch.bool)
        for i, m in enumerate(chosen.tolist()):
            if m >= 0:
                assert all(not torch.equal(a[i], b[i]) for a, b in zip(old[m], new[m], strict=True))
                shared = {a.data_ptr() for a in old[m]}
                others[i] = torch.tensor([not shared & {a.data_ptr() for a in g} for g in old])
        for m, (a, b) in enumerate(zip(old, new, strict=True)):
            for one, two in zip(a, b, strict=True):
                assert torch.equal(one[others[:, m]], two[others[:, m]])

        loss = torch.stack([t.square().mean() for t in tensors(returned)]).sum()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        assert handle.step == step + 1
    handle.remove()
    recorder.remove()
    for module in model.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
    assert list(model.state_dict()) == keys


@EVERY
def test_verify_passes(shape):
    report = verify(shape.make(), *shape.batch(), **shape.where, strict=True)
    assert "output is used" in [check.name for check in report.checks]


@EVERY
@pytest.mark.parametrize("in_training_branch", [False, True])
def test_the_audit_measures_it_as_it_is_run_by_hand(shape, in_training_branch):
    if not (shape.eval_mode or in_training_branch):
        with pytest.raises(cmiei_hooks.CMIEIError, match="--training-branch"):
            audit(shape.make(), [shape.batch()], **shape.where)
        return
    model, x = shape.make(), shape.batch()
    report = audit(model, [x], **shape.where, in_training_branch=in_training_branch)
    # By hand: every normalisation and dropout in eval, the rest as the mode says.
    for module in model.modules():
        still = isinstance(module, (nn.BatchNorm1d, nn.Dropout))
        module.training = in_training_branch and not still
    recorder = Recorder(model, shape)
    for ours, theirs in zip(recorder.twin.modules(), model.modules(), strict=True):
        ours.training = theirs.training
    model(*x)
    z = recorder.by_hand(None)
    for m, name in enumerate(report.names):
        expected = divergence(z, recorder.by_hand(m), report.measure).mean().item()
        assert report.influence[name].mean == pytest.approx(expected, rel=1e-3, abs=1e-6)
