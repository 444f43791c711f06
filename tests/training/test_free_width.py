"""Sequences whose width varies from call to call: one width is the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks.errors import CMIEIError

ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "p_max": 0.5, "log": False}
WHERE = {"head": "head", "splits": [None, 9], "names": ["text", "image"], "dim": 1}


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).tanh().mean(1)


class Model(nn.Module):
    """Text tokens padded to the longest of the batch, then image tokens."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.head, self.encode, self.reentrant = Tokens(), nn.Linear(8, 8), reentrant

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        x = torch.cat([self.encode(text), image], 1)
        if self.reentrant is None:
            return self.head(x)
        return checkpoint(self.head, x, use_reentrant=self.reentrant)


def attach(model: nn.Module, **settings) -> cmiei_hooks.Handle:
    handle = cmiei_hooks.attach(model, **(WHERE | ACTING | settings))
    handle.set_epoch(0)
    return handle


def batch(tokens: int) -> tuple[Tensor, Tensor]:
    return torch.randn(6, tokens, 8), torch.randn(6, 9, 8)


@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_the_influence_is_that_of_each_call(drop):
    model = Model()
    handle = attach(model, drop=drop)
    inputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    for tokens in (5, 7, 1):
        text, image = batch(tokens)
        model(text, image)
        x = torch.cat([model.encode(text), image], 1).detach()
        z = model.head.forward(x).log_softmax(-1)
        for m, columns in enumerate((slice(0, tokens), slice(tokens, None))):
            without = x.clone()
            without[:, columns] = x[:, columns].mean(0) if drop == "mean" else 0
            expected = (z.exp() * (z - model.head.forward(without).log_softmax(-1))).sum(-1)
            torch.testing.assert_close(handle.last.influence[:, m], expected)
        for row, m in enumerate(handle.last.substituted.tolist()):
            same = inputs[-1][row] == x[row]
            changed = {-1: 0, 0: tokens, 1: 9}[m]
            assert (~same).any(-1).sum() == changed
    assert handle.step == 3


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recompute_has_the_width_of_its_call(reentrant):
    gradients = []
    for kind in (None, reentrant):
        torch.manual_seed(1)
        model = Model(kind)
        attach(model, seed=5)
        losses = [model(*batch(tokens)).square().sum() for tokens in (5, 7)]
        sum(losses).backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_linear_head_is_measured_in_the_fast_way_with_the_rest(monkeypatch):
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    monkeypatch.setattr("cmiei_hooks.training.step.estimate", None)  # the general way
    model, x = Flat(), torch.randn(6, 12)
    influences = []
    for splits in ([4, None, 5], [4, 3, 5]):
        with cmiei_hooks.attach(model, head="head", splits=splits, **ACTING) as handle:
            model(x)
        influences.append(handle.last.influence)
    assert torch.equal(*influences)


def test_it_is_null_in_yaml_and_in_the_state(tmp_path, golden):
    path = tmp_path / "config.yml"
    path.write_text("ENABLED: true\nHEAD: head\nSPLITS: [null, 9]\nNAMES: [text, image]\n")
    lines = []
    model = Model()
    handle = cmiei_hooks.attach(
        model, config=path, dim=1, log=lambda record: lines.append(record.text())
    )
    golden(lines[0])
    assert handle.state_dict()["splits"] == [None, 9]
    handle.load_state_dict(handle.state_dict())
    handle.remove()
    other = attach(model, splits=[5, 9])
    with pytest.raises(CMIEIError):
        other.load_state_dict(handle.state_dict())


@pytest.mark.parametrize("splits", [[None, None, 9], [None, 0], [None], {"a": None, "b": None}])
def test_only_one_width_can_be_the_rest(splits, golden):
    with pytest.raises(CMIEIError) as error:
        attach(Model(), splits=splits, names=None)
    golden(error.value)


def test_verify_says_the_rest():
    report = cmiei_hooks.verify(Model(), *batch(5), **WHERE)
    assert report.ok
    (found,) = (check.found for check in report.checks if check.name == "modalities")
    assert found == "[6, 14, 8]: text the rest, image 9"


def test_the_audit_says_the_rest(tmp_path):
    report = cmiei_hooks.audit(Model(), [batch(5), batch(7)], **WHERE)
    assert (report.n_samples, report.splits) == (12, (None, 9))
    assert report.to_dict()["splits"] == [None, 9]
    report.save(tmp_path)
    assert "text the rest, image 9" in (tmp_path / "report.md").read_text()
