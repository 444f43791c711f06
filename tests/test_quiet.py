"""Nothing that a module does inside ``quiet`` may be seen afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cmiei_hooks.quiet import in_backward, may_be_recomputed, quiet

CPU = torch.device("cpu")


def test_buffers_keep_identity_value_and_version():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    module(torch.randn(5, 3))
    before = {k: (b, b.clone(), b._version) for k, b in module.named_buffers()}
    with quiet(module, CPU):
        module.forward(torch.randn(5, 3))
        assert module[0].num_batches_tracked == 2  # the clone counts, as in a real forward
    for key, buffer in module.named_buffers():
        original, value, version = before[key]
        assert buffer is original
        assert torch.equal(buffer, value)
        assert buffer._version == version


def test_tied_buffers_stay_tied_inside():
    module = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3)])
    module[1].running_mean = module[0].running_mean
    with quiet(module, CPU):
        assert module[1].running_mean is module[0].running_mean


class Untidy(nn.Module):
    """Sets attributes and buffers, and draws from every generator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> float:
        self.calls += 1
        self.cache = x
        self.register_buffer("late", x)
        return random.random() + np.random.rand() + torch.rand(()).item()


def test_attributes_late_buffers_and_generators_are_put_back():
    module, x = Untidy(), torch.randn(2)
    keys = list(module.__dict__)
    expected = Untidy()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = expected(x)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with quiet(module, CPU) as rewind:
        one = module.forward(x)
        different = module.forward(x)
        rewind()
        again = module.forward(x)
    assert one == again == first
    assert different != one
    assert module(x) == first  # afterwards the generators are where they were
    assert module.calls == 1
    with quiet(module, CPU):
        module.forward(x)
    del module.cache
    module._buffers.clear()
    assert list(module.__dict__) == keys


def test_everything_is_put_back_when_the_module_raises():
    module = nn.BatchNorm1d(3)
    buffers = dict(module.named_buffers())
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"), quiet(module, CPU):
        module.forward(torch.rand(4, 3))  # draws
        raise RuntimeError("stop")
    assert all(buffer is buffers[key] for key, buffer in module.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert torch.is_autocast_cache_enabled()


def gradient_after_a_run_under_autocast(prepare) -> torch.Tensor | None:
    module = nn.Linear(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with prepare(module):
            module.forward(torch.randn(3, 4))
        module(torch.randn(3, 4)).sum().backward()
    return module.weight.grad


def test_under_autocast_the_weights_still_get_their_gradient():
    assert gradient_after_a_run_under_autocast(lambda m: quiet(m, CPU)) is not None


@pytest.mark.skipif(
    torch.__version__ >= "2.2", reason="torch 2.1 is known to have the fault, 2.13 to be free of it"
)
def test_without_the_guard_autocasts_cache_swallows_the_gradient():
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient_after_a_run_under_autocast(lambda m: torch.no_grad())


@pytest.mark.parametrize("reentrant", [False, True])
def test_in_backward_tells_a_recompute_from_a_call(reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append(in_backward())
        return x.sin()

    x = torch.randn(3, requires_grad=True)
    out = checkpoint(block, x, use_reentrant=reentrant)
    assert seen == [False]
    out.sum().backward()
    assert seen == [False, True]
    assert not in_backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_call_under_checkpointing_may_be_recomputed(reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append(may_be_recomputed())
        return x.sin()

    checkpoint(block, torch.randn(3, requires_grad=True), use_reentrant=reentrant)
    assert seen == [True]


@pytest.mark.skipif(torch.__version__ < "2.2", reason="older versions cannot exclude it")
def test_a_plain_call_is_not_recomputed():
    assert not may_be_recomputed()
