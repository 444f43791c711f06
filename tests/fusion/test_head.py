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
