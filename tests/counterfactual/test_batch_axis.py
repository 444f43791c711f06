"""The batch on the second axis, where it has as many samples as the first one has steps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import verify
from cmiei_hooks.errors import InputError, OutputError
from cmiei_hooks.verification import Check

NAME = "batch on the first axis"
WHERE = {"head": "head", "splits": [4, 4]}


class LastStep(nn.Module):
    """An LSTM over ``[T, B, D]``, which is torch's default, or over ``[B, T, D]``."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 6, batch_first=batch_first)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(6, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        steps = self.rnn(x)[0]
        return self.fc(self.drop(steps[:, -1] if self.batch_first else steps[-1]))


class Attends(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=batch_first)
        self.fc, self.axis = nn.Linear(8, 3), int(batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(x).mean(self.axis))


class AcrossSamples(LastStep):
    """Its samples are not independent: it cannot be told which axis they are on."""

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return z + torch.arange(len(z))[:, None] * z.mean()


class Late(nn.Module):
    """Several tensors ``[T, B, D]``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.fc(torch.cat([a, b], -1)).mean(0)


class Model(nn.Module):
    def __init__(self, head: nn.Module, swap: bool = False) -> None:
        super().__init__()
        self.head, self.swap = head, swap

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.swap:  # batch first outside, batch second for the head
            a, b = a.transpose(0, 1), b.transpose(0, 1)
        return self.head(a, b) if isinstance(self.head, Late) else self.head(torch.cat([a, b], -1))


def check(model: nn.Module, *sizes: int, **where) -> Check | None:
    given = [torch.randn(*(sizes or (6, 6)), 4) for _ in range(2)]
    report = verify(model, *given, **(where or WHERE))
    return next((check for check in report.checks if check.name == NAME), None)


@pytest.mark.negative_control
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", [LastStep, Attends])
def test_the_batch_on_the_second_axis(kind, swap, golden):
    found = check(Model(kind(batch_first=False), swap))
    assert not found.ok
    golden(found.found)


@pytest.mark.negative_control
def test_several_tensors():
    assert not check(Model(Late()), head="head", modalities={"a": 0, "b": 1}).ok


@pytest.mark.parametrize("kind", [LastStep, Attends])
def test_the_batch_on_the_first_axis(kind):
    assert check(Model(kind(batch_first=True))).ok


def test_without_another_axis_of_that_size_there_is_nothing_to_check():
    assert check(Model(LastStep(batch_first=True)), 5, 6) is None


def test_a_head_that_mixes_its_samples_cannot_be_told():
    assert check(Model(AcrossSamples(batch_first=True))) is None


def attach(head: nn.Module, **settings) -> tuple[nn.Module, cmiei_hooks.Handle]:
    model = Model(head)
    settings = {"k": 1, "warmup_epochs": 1, "log": False} | settings
    handle = cmiei_hooks.attach(model, **WHERE, **settings)
    handle.set_epoch(0)
    return model, handle


@pytest.mark.parametrize("kind", [LastStep, Attends])
def test_training_is_refused_in_the_first_call(kind, golden):
    model, _ = attach(kind(batch_first=False))
    with pytest.raises(InputError) as error:
        model(torch.randn(6, 6, 4), torch.randn(6, 6, 4))
    golden(error.value)


@pytest.mark.negative_control
def test_otherwise_steps_would_be_substituted(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.training.step.possible_batch_axes", lambda captured: [])
    model, handle = attach(LastStep(batch_first=False), warmup_epochs=0)
    inputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    a, b = torch.randn(6, 6, 4), torch.randn(6, 6, 4)
    with torch.no_grad():
        model.head.fc.weight.mul_(50)
    model(a, b)
    changed = (inputs[0] != torch.cat([a, b], -1)).any(-1)
    assert changed.any(1).sum() == (handle.last.substituted >= 0).sum() > 0  # steps, not samples
    assert changed.any(0).all()


@pytest.mark.parametrize("kind", [LastStep, Attends, AcrossSamples])
def test_training_with_the_batch_first_is_that_without_the_tool(kind):
    model, _ = attach(kind(batch_first=True))
    plain = copy.deepcopy(model)
    given = [torch.randn(6, 6, 4) for _ in range(2)]
    flags = [module.training for module in model.modules()]
    results = []
    for each in (model, plain):
        torch.manual_seed(3)
        z = each(*given)
        z.square().sum().backward()
        results.append([z, torch.get_rng_state(), *(p.grad for p in each.parameters())])
    assert all(map(torch.equal, *results))
    assert flags == [module.training for module in model.modules()]


@pytest.mark.parametrize("tool", ["attach", "verify"])
@pytest.mark.parametrize("sizes", [(7, 6), (3, 6)])
def test_another_number_of_steps_names_the_axis(tool, sizes, golden):
    head = LastStep(batch_first=False)
    if tool == "verify":
        report = verify(Model(head), *(torch.randn(*sizes, 4) for _ in range(2)), **WHERE)
        (found,) = (check.found for check in report.checks if check.name == "logits")
        golden(found)
        return
    model, _ = attach(head)
    with pytest.raises(OutputError) as error:
        model(*(torch.randn(*sizes, 4) for _ in range(2)))
    golden(error.value)
