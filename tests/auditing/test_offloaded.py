"""Models whose weights are on ``meta`` between calls, as accelerate offloads them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from helpers import WIDTHS, Fused, trace
from torch import Tensor, nn

from cmiei_hooks import CMIEIError, audit
from cmiei_hooks.auditing import device_of, load_checkpoint, make_model

WHERE = {"head": "classifier", "splits": WIDTHS}


class Prefixed(Mapping):
    """As accelerate's ``PrefixedDataset``: the weights of one module among those of all."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self.weights, self.prefix = weights, prefix

    def __getitem__(self, key: str) -> Tensor:
        return self.weights[self.prefix + key]

    def __iter__(self):
        return (key for key in self.weights if key.startswith(self.prefix))

    def __len__(self) -> int:
        return len(self.weights)


class OnDisk(dict):
    """Gives a new tensor each time, as ``OffloadedWeightsLoader`` does."""

    def __getitem__(self, key: str) -> Tensor:
        return super().__getitem__(key).clone()


class Hook:
    """A stand-in for ``AlignDevicesHook``: weights and buffers come for each call and go after."""

    def __init__(self, module: nn.Module, weights_map: Mapping[str, Tensor]) -> None:
        self.module, self.forward, self.weights_map = module, module.forward, weights_map
        self.execution_device = "cpu"
        self.kinds = [module._parameters, module._buffers]
        self._each(lambda value, _: value.to("meta"))
        module._hf_hook, module.forward = self, self

    def _each(self, new) -> None:
        for values in self.kinds:
            for name, old in values.items():
                value = new(old.detach(), name)
                parameter = isinstance(old, nn.Parameter)
                values[name] = nn.Parameter(value, old.requires_grad) if parameter else value

    def __call__(self, *args: Tensor) -> Tensor:
        self._each(lambda _, name: self.weights_map[name])
        try:
            return self.forward(*args)
        finally:
            self._each(lambda value, _: value.to("meta"))


def offloaded(model: nn.Module, kind: type[dict] = dict) -> nn.Module:
    weights = kind({key: value.clone() for key, value in model.state_dict().items()})
    for path, module in list(model.named_modules()):
        if [*module.parameters(recurse=False)]:
            Hook(module, Prefixed(weights, f"{path}."))
    assert all(parameter.is_meta for parameter in model.parameters())
    return model


def normed(seed: int = 0) -> Fused:
    torch.manual_seed(seed)
    # Not a Linear alone: that one is taken apart where it is not offloaded, with other rounding.
    head = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7))
    model = Fused(head)
    for _ in range(3):
        model(torch.randn(8, 6) + 1)
    return model


def batches() -> list[Tensor]:
    return list(torch.randn(12, 6, generator=torch.Generator().manual_seed(1)).split(5))


@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_the_audit_is_that_of_the_model_that_is_not_offloaded(drop):
    plain = audit(normed(), batches(), **WHERE, drop=drop)
    model = offloaded(normed())
    before = trace(model)
    report = audit(model, batches(), **WHERE, drop=drop)
    assert report.to_dict() == plain.to_dict()
    assert trace(model).keys() == before.keys()
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_an_offloaded_linear_head_has_the_influences_of_one_that_is_not():
    torch.manual_seed(0)
    model = Fused()
    plain, report = (
        audit(one, batches(), **WHERE) for one in (copy.deepcopy(model), offloaded(model))
    )
    for name, interval in plain.influence.items():
        assert report.influence[name].mean == pytest.approx(interval.mean, rel=1e-5)
        assert report.null[name]["p"] == plain.null[name]["p"]


@pytest.mark.negative_control
def test_an_offloaded_hidden_layer_is_refused():
    mlp = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))
    with pytest.raises(CMIEIError) as error:
        audit(offloaded(Fused(mlp)), batches(), head="classifier.0", splits=WIDTHS)
    assert "more layer" in error.value.got


def test_checkpoints_are_loaded_and_the_weights_of_before_put_back(tmp_path):
    for seed in (1, 2):
        torch.save(normed(seed).state_dict(), tmp_path / f"{seed}.pth")
    model = offloaded(normed())
    before = audit(model, batches(), **WHERE)
    report = audit(model, batches(), **WHERE, checkpoints=tmp_path)
    plain = audit(normed(), batches(), **WHERE, checkpoints=tmp_path)
    assert report.trend == plain.trend
    assert report.influence == plain.influence != before.influence
    assert audit(model, batches(), **WHERE).influence == before.influence


def test_saved_features_know_the_weights(tmp_path):
    file = tmp_path / "f.pt"
    report = audit(offloaded(normed()), batches(), **WHERE, save_features=file)
    again = audit(offloaded(normed()), None, **WHERE, features=file)
    assert again.influence == report.influence
    with pytest.raises(CMIEIError):
        audit(offloaded(normed(1)), None, **WHERE, features=file)


def loader_without_map() -> nn.Module:
    model = normed()
    for module in [*model.modules()]:
        if [*module.parameters(recurse=False)]:
            Hook(module, {k: v.clone() for k, v in module.state_dict().items()})
            module._hf_hook = SimpleNamespace()
    return model


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: offloaded(normed(), OnDisk), id="on disk"),
        pytest.param(loader_without_map, id="another way"),
        pytest.param(lambda: normed().to("meta"), id="never loaded"),
    ],
)
def test_weights_that_cannot_be_loaded_are_not_left_as_they_are_in_silence(tmp_path, make, golden):
    torch.save(normed(1).state_dict(), tmp_path / "c.pth")
    with pytest.raises(CMIEIError) as error:
        load_checkpoint(make(), tmp_path / "c.pth", "classifier")
    golden(error.value)


def test_a_factory_may_return_an_offloaded_model(monkeypatch):
    model = offloaded(normed())
    monkeypatch.setattr("cmiei_hooks.auditing.user_code.call_function", lambda *_: model)
    assert make_model("a:b", {}, "cpu") is model


def test_the_device_is_where_the_hooks_let_the_model_run():
    model = offloaded(normed())
    assert device_of(model).type == "cpu"
    model.classifier[1]._hf_hook.execution_device = None
    for module in model.modules():
        if hasattr(module, "_hf_hook"):
            module._hf_hook.execution_device = "cuda:3"
    device = torch.device("cuda:3")
    assert device_of(model) == device
    for module in model.modules():
        if hasattr(module, "_hf_hook"):
            module._hf_hook = SimpleNamespace(hooks=[SimpleNamespace(), module._hf_hook])
    assert device_of(model) == device
