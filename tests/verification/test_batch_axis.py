"""The batch on the second axis, where it has as many samples as the first one has steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cmiei_hooks import verify
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
