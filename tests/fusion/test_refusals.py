"""A head that cannot work is refused before the first call, with the cause and the remedy."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, Handle
from cmiei_hooks.fusion.partition import Partition
from cmiei_hooks.fusion.refusals import refuse_wrong_width


def attach(model: nn.Module, **settings) -> Handle:
    options = {"head": "classifier", "splits": WIDTHS, "k": 1, "warmup_epochs": 0, "log": False}
    return cmiei_hooks.attach(model, **(options | settings))


@pytest.mark.parametrize("container", [nn.ModuleList, nn.Sequential])
def test_a_module_list_is_refused_and_a_sequential_is_not(container, golden):
    model = Fused(
        container([nn.Linear(12, 7)]) if container is nn.ModuleList else container(nn.Linear(12, 7))
    )
    if container is nn.Sequential:
        attach(model)
        return
    with pytest.raises(CMIEIError) as error:
        attach(model)
    golden(error.value)


def test_the_output_projection_of_attention_is_refused(golden):
    model = nn.Sequential(nn.MultiheadAttention(12, 2))
    with pytest.raises(CMIEIError) as error:
        attach(model, head="0.out_proj")
    golden(error.value)


@pytest.fixture
def capturing(monkeypatch) -> None:
    """As while a CUDA graph is captured: no GPU is needed to ask."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


def test_the_capture_of_a_cuda_graph_is_refused(capturing, golden):
    model = Fused()
    handle = attach(model)
    with pytest.raises(CMIEIError) as error:
        model.classifier(torch.randn(4, 12))
    golden(error.value)
    model.eval().classifier(torch.randn(4, 12))  # there the hook does nothing
    assert handle.step == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
def test_a_real_capture_is_refused():
    model = Fused().cuda()
    attach(model)
    x = torch.randn(4, 12, device="cuda")
    with pytest.raises(CMIEIError, match="CUDA graph"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        model.classifier(x)


def test_data_parallel_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        attach(nn.DataParallel(Fused()))
    golden(error.value)


def test_data_parallel_applied_after_attach_is_refused_at_the_first_call(golden):
    model = Fused()
    attach(model)
    replica = model.classifier._replicate_for_data_parallel()  # what it does for every device
    with pytest.raises(CMIEIError) as error:
        replica(torch.randn(4, 12))
    golden(error.value)


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(2, 12))]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_head_is_refused(script, golden):
    with pytest.raises(CMIEIError) as error:
        attach(Fused(script(nn.Linear(12, 7))))
    golden(error.value)


def test_a_head_that_holds_a_scripted_part_is_refused_and_a_scripted_backbone_is_not(x, golden):
    with pytest.raises(CMIEIError) as error:
        attach(Fused(nn.Sequential(nn.Flatten(), torch.jit.script(nn.Linear(12, 7)))))
    golden(error.value)
    model = Fused()
    model.encoders[0] = torch.jit.script(nn.Linear(6, 4))
    cmiei_hooks.verify(model, x, head="classifier", splits=WIDTHS, strict=True)
    handle = attach(model)
    model(x)
    assert handle.step == 1


def test_a_lazy_part_of_the_head_is_refused_until_it_was_called(x, golden):
    model = Fused(nn.Sequential(nn.Flatten(), nn.LazyLinear(7)))
    with pytest.raises(CMIEIError) as error:
        attach(model)
    golden(error.value)
    model(x)
    attach(model)


def test_a_model_with_lazy_modules_outside_and_as_the_head(x):
    model = Fused(nn.LazyLinear(7))
    model.encoders[0] = nn.LazyLinear(4)
    handle = attach(model)
    model(x)
    assert handle.step == 1


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(12, 3),
        nn.BatchNorm1d(12),
        nn.LayerNorm(12),
        nn.Sequential(nn.Dropout(), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 3)),
        nn.Sequential(nn.Sequential(nn.Linear(12, 3)), nn.Linear(3, 3)),
    ],
)
def test_splits_must_sum_to_the_declared_width(head, golden):
    refuse_wrong_width(head, "head", Partition((4, 8), ("a", "b")))
    with pytest.raises(CMIEIError) as error:
        refuse_wrong_width(head, "head", Partition((4, 4), ("a", "b")))
    golden(error.value)


@pytest.mark.parametrize("head", [nn.LazyLinear(3), nn.Sequential(), nn.Bilinear(3, 3, 3)])
def test_a_width_that_is_not_declared_is_not_checked_before_the_first_call(head):
    refuse_wrong_width(head, "head", Partition((4, 4), ("a", "b")))


def test_the_rest_needs_a_column_of_the_declared_width(golden):
    refuse_wrong_width(nn.Linear(12, 3), "head", Partition((4, None), ("a", "b")))
    refuse_wrong_width(nn.Linear(12, 3), "head", Partition((None, 11), ("a", "b")))
    with pytest.raises(CMIEIError) as error:
        refuse_wrong_width(nn.Linear(12, 3), "head", Partition((4, None, 8), ("a", "b", "c")))
    golden(error.value)
