"""Models whose weights are on ``meta`` until a module is called, as accelerate offloads them."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import verify
from cmiei_hooks.discovery import device_of

WHERE = {"head": "classifier", "splits": WIDTHS}


class Hook:
    """Behaves like accelerate's ``AlignDevicesHook``: weights come for each call and go after."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.forward = module, module.forward
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}
        self._unload()
        module._hf_hook, module.forward = self, self

    def _set(self, name: str, value: Tensor) -> None:
        old = self.module._parameters[name]
        self.module._parameters[name] = nn.Parameter(value, old.requires_grad)

    def _unload(self) -> None:
        for name, weight in self.weights.items():
            self._set(name, weight.to("meta"))

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        for name, weight in self.weights.items():
            self._set(name, weight)
        try:
            return self.forward(*args, **kwargs)
        finally:
            self._unload()


def offloaded(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        if next(module.parameters(recurse=False), None) is not None:
            Hook(module)
    assert all(parameter.is_meta for parameter in model.parameters())
    return model


@pytest.mark.parametrize("frozen", [False, True])
def test_an_offloaded_model_passes(x, frozen):
    report = verify(offloaded(Fused().requires_grad_(not frozen)), x, **WHERE)
    assert report.ok
    assert "logits" in [check.name for check in report.checks]


def test_with_a_loss(x):
    report = verify(offloaded(Fused()), x, **WHERE, loss=lambda z: z.square().mean())
    assert report.ok


def test_the_influence_is_that_of_the_model_that_is_not_offloaded(x):
    torch.manual_seed(0)
    plain = Fused()
    influence = []
    for model in (plain, offloaded(plain)):
        handle = cmiei_hooks.attach(model, **WHERE, log=False, k=1)
        handle.set_epoch(0)
        model(x)
        influence.append(handle.last.influence)
        handle.remove()
    assert torch.equal(*influence)


@pytest.mark.negative_control
def test_an_offloaded_hidden_layer_is_not_the_head(x):
    mlp = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))
    report = verify(offloaded(Fused(mlp)), x, head="classifier.0", splits=WIDTHS)
    assert [check.name for check in report.checks if not check.ok] == [
        "head returns the model's logits"
    ]


def test_discover(x):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 3), nn.Linear(6, 4), nn.Linear(7, 5)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(torch.cat([self.a(a), self.b(b)], 1))

    report = cmiei_hooks.discover(offloaded(Two()), x, x.flip(0))
    assert report.candidates[0].splits == (3, 4)


def test_the_device_comes_from_what_is_not_on_meta():
    model = nn.Linear(2, 2, device="meta")
    assert device_of(model, ((torch.ones(1),), {})).type == "cpu"
    assert device_of(model, ((torch.ones(1, device="meta"),), {})).type == "cpu"
