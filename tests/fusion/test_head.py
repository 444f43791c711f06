from __future__ import annotations

import pytest
import torch
from helpers import Fused
from torch import nn

from cmiei_hooks import CMIEIError
from cmiei_hooks.fusion.head import find_head


class Wrapper(nn.Module):
    """Names its content as DistributedDataParallel does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_the_head_is_found_by_its_path():
    model = nn.Sequential(Fused(), nn.Linear(7, 2))
    assert find_head(model, "0.classifier", 12) is model[0].classifier
    assert find_head(model, "", 12) is model


@pytest.mark.parametrize("name", ["classifier", "module.classifier"])
def test_wrappers_may_be_left_out_of_the_path(name):
    model = Wrapper(Fused())
    assert find_head(model, name, 12) is model.module.classifier


def test_a_name_of_the_model_itself_wins_over_one_without_wrappers():
    model = Wrapper(Fused())
    model.classifier = nn.Linear(12, 2)
    assert find_head(model, "classifier", 12) is model.classifier


class Opacus(nn.Module):
    """Names its content as ``GradSampleModule`` does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module


class Fabric(nn.Module):
    """Names its content as Fabric's ``_FabricModule`` does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._forward_module = module


class Peft(nn.Module):
    """Names its content as ``PeftModel`` does: the tuner is in between."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = module


class Lora(nn.Module):
    """An adapter of PEFT, which keeps the layer that it replaces."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_layer, self.lora_A = base, nn.ModuleDict({"default": nn.Linear(12, 2)})


WRAPPED = {
    "opacus": (Opacus, "_module.classifier"),
    "fabric": (Fabric, "_forward_module.classifier"),
    "peft": (Peft, "base_model.model.classifier"),
    "peft in fabric in ddp": (
        lambda model: Wrapper(Fabric(Peft(model))),
        "module._forward_module.base_model.model.classifier",
    ),
}


@pytest.mark.parametrize("tool", WRAPPED)
def test_wrappers_of_other_libraries_may_be_left_out_or_not(tool):
    wrap, name = WRAPPED[tool]
    model = Fused()
    assert find_head(wrap(model), "classifier", 12) is model.classifier
    assert find_head(wrap(model), name, 12) is model.classifier
    assert find_head(model, name, 12) is model.classifier  # not wrapped (yet)


def test_a_part_that_is_named_like_half_a_wrapper_is_none():
    model = nn.Sequential(Fused())
    model.base_model = Fused()
    assert find_head(model, "base_model.classifier", 12) is model.base_model.classifier
    with pytest.raises(CMIEIError):
        find_head(model, "classifier", 12)


def test_the_layer_inside_an_adapter_is_never_proposed(golden):
    model = Fused()
    model.classifier = Lora(model.classifier)
    assert find_head(Peft(model), "classifier", 12) is model.classifier
    with pytest.raises(CMIEIError) as error:
        find_head(Peft(model), "base_layer", 12)
    golden(error.value)


def test_a_compiled_model():
    model = Fused()
    assert find_head(torch.compile(model, backend="eager"), "classifier", 12) is model.classifier


def test_an_unknown_head_gets_a_suggestion_and_the_modules_that_fit(golden):
    model = Fused()
    model.other = nn.Linear(12, 2)
    with pytest.raises(CMIEIError) as error:
        find_head(model, "clasifier", 12)
    golden(error.value)  # of the encoders none fits
    with pytest.raises(CMIEIError) as error:
        find_head(model, "zzz", 99)
    golden(error.value)


@pytest.mark.parametrize(
    "container", [nn.ModuleList([nn.Linear(12, 3)]), nn.ModuleDict({"0": nn.Linear(12, 3)})]
)
def test_a_container_that_is_never_called_is_refused(container, golden):
    with pytest.raises(CMIEIError) as error:
        find_head(Fused(container), "classifier", 12)
    golden(error.value)
