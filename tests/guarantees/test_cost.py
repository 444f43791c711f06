"""What an estimate may not cost: waiting for the device, memory, compiling again.

How long it takes is measured by ``python -m tools.benchmark`` and not here.
"""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn

import cmiei_hooks
import cmiei_hooks.training.substitution
from tools.benchmark.head import Shape
from tools.benchmark.memory import peak_memory

HEADS = {
    "linear": lambda: nn.Linear(12, 7),
    "batch norm, linear": lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)),
    "mlp": lambda: nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 7)),
    "general": lambda: nn.Sequential(nn.Dropout(), nn.Linear(12, 7)),
}
SETTINGS = {
    "default": {},
    "batch level": {"sample_level": False},
    "mean": {"drop": "mean"},
    "relative": {"relative": True},
    "another measure": {"measure": "js"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_an_estimation_step_reads_nothing_from_the_device(make, settings, monkeypatch):
    """Tensors on meta hold no values: whatever asks for one fails."""
    monkeypatch.setattr(
        cmiei_hooks.training.substitution, "noise_generator", lambda *_: None
    )  # meta has none
    model = Fused(make()).to("meta")
    common = {"k": 1, "warmup_epochs": 0, "log": False}
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **common, **settings)
    for _ in range(2):
        model(torch.randn(16, 6, device="meta")).sum().backward()
    assert handle.step == 2
    assert handle.last.substituted.device.type == "meta"
    with pytest.raises(RuntimeError, match=r"(?i)meta"):
        handle.metrics()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_an_estimation_step_does_not_wait_for_cuda(make):
    model, x = Fused(make()).cuda(), torch.randn(16, 6, device="cuda")
    common = {"k": 1, "warmup_epochs": 0, "log": False}
    with cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **common) as handle:
        model(x).sum().backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(x).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert handle.metrics()["C_MIEI_Ratio"] > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
class TestPeakMemory:
    CPU = torch.device("cpu")

    def test_with_many_classes_an_estimate_needs_little(self):
        shape = Shape(batch=256, width=4, classes=100_000, modalities=8)
        assert peak_memory(shape, general=False, device=self.CPU) < 1.5

    @pytest.mark.negative_control
    def test_running_the_head_again_needs_the_logits_of_all_variants(self):
        shape = Shape(batch=256, width=4, classes=100_000, modalities=2)
        assert peak_memory(shape, general=True, device=self.CPU) > 3


def test_memory_does_not_grow_over_10_000_steps():
    model = Fused()
    x = torch.randn(8, 6)
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, warmup_epochs=1, log=False)

    def train(steps: int) -> tuple[int, int]:
        for step in range(steps):
            handle.set_epoch(handle.epoch + (step % 100 == 0))
            model(x).sum().backward()
        gc.collect()
        return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    objects, memory = train(1000)
    more_objects, more_memory = train(10_000)
    assert handle.metrics()["C_MIEI_Ratio"] > 0
    assert more_objects - objects < 100
    unit = 1 if sys.platform == "darwin" else 1024
    assert (more_memory - memory) * unit < 4e6  # 400 bytes a step


def test_steps_and_epochs_do_not_compile_again():
    model, x = Fused(), torch.randn(8, 6)
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=WIDTHS, k=2, warmup_epochs=1, log=False
    )
    compiled = torch.compile(model, backend="eager")

    def train(epochs: range) -> int:
        for epoch in epochs:
            handle.set_epoch(epoch)
            for _ in range(4):
                compiled(x).sum().backward()
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    torch._dynamo.utils.counters.clear()
    graphs = train(range(2))
    assert graphs > 0
    assert train(range(2, 20)) == graphs
    assert handle.metrics()["C_MIEI_Ratio"] > 0
