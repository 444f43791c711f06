"""What an error proposes as the head is never a layer inside of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cmiei_hooks
from cmiei_hooks.errors import HeadError, SplitsError
from cmiei_hooks.fusion import common_module
from cmiei_hooks.fusion.suggestions import suggested_heads


class Adapter(nn.Module):
    """As PEFT's LoRA layer, which is called in the place of its ``base_layer``."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(12, 5)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(12, 2)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 5)})


class Saved(nn.Module):
    """As PEFT's wrapper of modules that are trained whole."""

    def __init__(self) -> None:
        super().__init__()
        self.original_module = nn.Linear(12, 5)
        self.modules_to_save = nn.ModuleDict({"default": nn.Linear(12, 5)})


class Scaled(nn.Module):
    """An adapter without a Linear of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(12, 5)
        self.scale = nn.Parameter(torch.ones(5))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(12), nn.Linear(12, 9), nn.Linear(9, 5)


class Concatenates(nn.Module):
    """Its Linear is the head: the module itself receives several tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)


class Convolutions(nn.Module):
    """Its encoders are no Linear modules, but come before the head all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(3, 4, 1)
        self.classifier = nn.Linear(12, 5)


HEADS = {
    "a Linear": (lambda: nn.Linear(12, 5), "'head' (12 -> 5)"),
    "a Sequential": (
        lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5)),
        "'head' (12 -> 5)",
    ),
    "a Linear and its normalisation": (
        lambda: nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5)),
        "'head' (12 -> 5)",
    ),
    "a normalisation first": (
        lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 5)),
        "'head' (12 -> 5)",
    ),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), nn.Linear(8, 5)),
        "'head' (12 -> 5)",
    ),
    "a class of its own": (MLP, "'head' (12 -> 5)"),
    "a list, which is never called": (
        lambda: nn.ModuleList([nn.Linear(12, 5), nn.Linear(12, 7)]),
        "'head.0' (12 -> 5), 'head.1' (12 -> 7)",
    ),
    "LoRA": (Adapter, "'head' (12 -> 5)"),
    "a saved module": (Saved, "'head' (12 -> 5)"),
    "a scaled layer": (Scaled, "'head' (12 -> 5)"),
    "an MLP behind adapters": (
        lambda: nn.Sequential(Adapter(), nn.ReLU(), nn.Linear(5, 3)),
        "'head' (12 -> 3)",
    ),
    "a module that concatenates": (Concatenates, "'head.fc' (12 -> 5)"),
    "convolutions in front": (Convolutions, "'head.classifier' (12 -> 5)"),
    "none": (nn.Identity, "none"),
}


def build(head: nn.Module) -> nn.Module:
    model = nn.Module()
    model.encoders = nn.ModuleList([nn.Linear(3, 4) for _ in range(3)])
    model.head = head
    return model


@pytest.mark.parametrize("case", HEADS)
def test_the_smallest_module_that_returns_the_logits(case):
    make, expected = HEADS[case]
    assert suggested_heads(dict(build(make()).named_modules()), 12) == expected


def test_lazy_modules_have_no_width_yet():
    modules = dict(build(nn.LazyLinear(5)).named_modules())
    assert suggested_heads(modules, 12) == "none"


def test_the_whole_model_is_never_proposed():
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
    assert suggested_heads(dict(model.named_modules()), 12) == "'0' (12 -> 8)"


def test_the_errors_propose_it(golden):
    model = build(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5)))
    for arguments, kind in (
        ({"head": "clasifier", "splits": [4, 4, 4]}, HeadError),
        ({"splits": [4, 4, 4]}, HeadError),
        ({"head": "head"}, SplitsError),
    ):
        with pytest.raises(kind) as error:
            cmiei_hooks.attach(model, **arguments)
        golden(error.value.remedy)


def test_the_module_that_contains_several():
    model = nn.Module()
    model.net = nn.ModuleDict({"fusion": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    model.net["other"] = nn.Linear(2, 2)
    modules = dict(model.named_modules())
    assert common_module(modules, ["net.fusion.0", "net.fusion.1"]) == "net.fusion"
    assert common_module(modules, ["net.fusion.0", "net.fusion.0"]) == "net.fusion.0"
    assert common_module(modules, ["net.fusion.0", "net.other"]) == ""
