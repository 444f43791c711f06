"""What an estimate may not cost: waiting for the device, memory, compiling again.

How long it takes is measured by ``python -m tools.benchmark`` and not here.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import cmiei_hooks
import cmiei_hooks.training.substitution
from cmiei_hooks.counterfactual import OutputCheck
from cmiei_hooks.training.statistics import Statistics
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
    "soft": {"preset": "selfpaced", "end_step": 9},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_an_estimation_step_reads_nothing_from_the_device(make, settings, monkeypatch):
    """Tensors on meta hold no values: whatever asks for one fails."""
    # It compares values, but only once, in the first forward.
    monkeypatch.setattr(cmiei_hooks.training.step, "OutputCheck", lambda *_, **__: OutputCheck())
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
class TestPeakMemory:
    CPU = torch.device("cpu")

    def test_with_many_classes_an_estimate_needs_little(self):
        shape = Shape(batch=128, width=4, classes=40_000, modalities=8)
        assert peak_memory(shape, general=False, device=self.CPU) < 1.5

    @pytest.mark.negative_control
    def test_running_the_head_again_needs_the_logits_of_all_variants(self):
        shape = Shape(batch=128, width=4, classes=40_000, modalities=2)
        assert peak_memory(shape, general=True, device=self.CPU) > 3


class Storages(TorchDispatchMode):
    """Notes every storage that an operation reads or makes, and counts those that are still alive.

    An estimate is made out of its sight, and read by what comes after it. It sees tensors that
    Python cannot reach, such as those that a graph keeps for its backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        leaves, _ = tree_flatten((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        made = [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]
        self._made |= {storage.cdata: storage for storage in made}
        return result

    def alive(self) -> int:
        self._made = {key: made for key, made in self._made.items() if not made.expired()}
        return len(self._made)


def growth() -> tuple[int, int]:
    """Storages and Python objects that are there after 30 more training steps."""
    model, x = Fused(), torch.randn(8, 6)
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, warmup_epochs=1, log=False)

    def train(storages: Storages) -> tuple[int, int]:
        for step in range(30):
            handle.set_epoch(handle.epoch + (step % 10 == 0))
            with storages:
                model(x).sum().backward()
        gc.collect()
        return storages.alive(), len(gc.get_objects())

    storages = Storages()
    train(storages)
    before, after = train(storages), train(storages)
    assert handle.metrics()["C_MIEI_Ratio"] > 0
    return after[0] - before[0], after[1] - before[1]


def test_memory_does_not_grow_with_the_steps():
    storages, objects = growth()
    assert storages == 0
    assert objects < 5


@pytest.mark.negative_control
def test_a_list_of_estimates_would_be_seen(monkeypatch):
    kept, add = [], Statistics.add

    def keep(self: Statistics, influence: Tensor, *rest: object) -> None:
        kept.append([influence])
        add(self, influence, *rest)

    monkeypatch.setattr(Statistics, "add", keep)
    storages, objects = growth()
    assert storages >= 10  # of the 30 steps every third is an estimation step
    assert objects >= 10


@pytest.mark.negative_control
def test_a_graph_that_is_kept_alive_would_be_seen(monkeypatch):
    """Python sees nothing of it: the nodes of the graph hold each other."""
    weight, add = torch.ones((), requires_grad=True), Statistics.add
    monkeypatch.setattr(
        Statistics, "add", lambda self, influence, *rest: add(self, influence * weight, *rest)
    )
    storages, _ = growth()
    assert storages >= 10


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
