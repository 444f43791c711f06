"""How much of training comes through a head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cmiei_hooks import VerifyReport, verify
from cmiei_hooks.errors import InputError

WHERE = {"head": "classifier", "splits": [2, 2]}


class TwoLosses(nn.Module):
    """A classifier, and an output of its own for another loss on the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 4)
        self.classifier = nn.Linear(4, 5)
        self.other = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return self.classifier(features), self.other(features)


def share(report: VerifyReport) -> float | None:
    for check in report.checks:
        if check.name == "gradient through the head" and check.found[0].isdigit():
            return float(check.found.split("%")[0]) / 100
    return None


def run(model: nn.Module, weight: float, **options) -> VerifyReport:
    def loss(returned: tuple[Tensor, Tensor]) -> Tensor:
        return weight * returned[0].square().mean() + returned[1].square().mean()

    return verify(model, torch.randn(8, 3), **WHERE, loss=loss, **options)


@pytest.mark.parametrize("weight", [1.0, 0.3, 1e-3])
def test_the_share_is_that_of_two_backward_passes(weight):
    model, x = TwoLosses(), torch.randn(8, 3)
    norms = []
    for i, factor in ((0, weight), (1, 1.0)):
        model.zero_grad()
        (factor * model(x)[i].square().mean()).backward()
        norms.append(
            math.sqrt(sum(p.grad.square().sum().item() for p in model.encoder.parameters()))
        )
    model.zero_grad()
    report = verify(
        model,
        x,
        **WHERE,
        loss=lambda out: weight * out[0].square().mean() + out[1].square().mean(),
    )
    assert share(report) == pytest.approx(norms[0] / sum(norms), abs=6e-4)
    assert report.ok == (norms[0] / sum(norms) >= 0.05)
    assert all(p.grad is None for p in model.parameters())


def test_a_small_weight_is_said_and_so_is_none(golden):
    small, none = run(TwoLosses(), 1e-4), run(TwoLosses(), 0.0)
    golden(small.checks[-1].found)
    assert share(none) == 0
    assert not none.ok
    assert verify(TwoLosses(), torch.randn(8, 3), **WHERE).ok  # it is not known


def test_all_of_it():
    class Only(TwoLosses):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.classifier(self.encoder(x)), torch.zeros(1)

    assert share(run(Only(), 1.0)) == 1


def test_a_frozen_backbone_has_no_share(golden):
    model = TwoLosses()
    model.encoder.requires_grad_(False)
    report = run(model, 1.0)
    assert share(report) is None
    assert report.ok
    golden(report.checks[-1].found)


class Discards(TwoLosses):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return self.classifier(features).detach(), self.other(features)


def test_an_output_that_is_discarded():
    report = run(Discards(), 1.0)
    found = {check.name: check for check in report.checks}
    assert not found["output is used"].ok
    assert share(report) == 0


class Checkpointed(TwoLosses):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return checkpoint(super().forward, x.requires_grad_(), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_through_activation_checkpointing(reentrant):
    model = Checkpointed()
    model.reentrant = reentrant
    report = run(model, 1.0)
    assert report.ok
    # Autograd refuses to look through the reentrant kind.
    assert (share(report) is None) == reentrant


@pytest.mark.parametrize("loss", [lambda out: out[0].square(), lambda out: 1.0, lambda out: out])
def test_a_loss_that_is_no_scalar_is_refused(loss, golden):
    with pytest.raises(InputError) as error:
        verify(TwoLosses(), torch.randn(8, 3), **WHERE, loss=loss)
    golden(error.value)


def test_all_calls_of_the_head_count():
    class Thrice(TwoLosses):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = self.encoder(x)
            weak = 1e-4 * self.classifier(features)
            return weak + self.classifier(features) + self.classifier(-features), torch.zeros(1)

    assert share(run(Thrice(), 1.0)) == 1
