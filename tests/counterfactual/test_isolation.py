"""Nothing that a module does inside ``isolated`` may be seen afterwards."""

from __future__ import annotations

import random
from collections import Counter, UserDict, defaultdict, namedtuple
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cmiei_hooks.counterfactual import isolation
from cmiei_hooks.counterfactual.isolation import isolated, private_copy

CPU = torch.device("cpu")


def test_buffers_keep_identity_value_and_version():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    module(torch.randn(5, 3))
    before = {k: (b, b.clone(), b._version) for k, b in module.named_buffers()}
    with isolated(module, CPU):
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
    with isolated(module, CPU):
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
    with isolated(module, CPU) as rewind:
        one = module.forward(x)
        different = module.forward(x)
        rewind()
        again = module.forward(x)
    assert one == again == first
    assert different != one
    assert module(x) == first  # afterwards the generators are where they were
    assert module.calls == 1
    with isolated(module, CPU):
        module.forward(x)
    del module.cache
    module._buffers.clear()
    assert list(module.__dict__) == keys
    with isolated(module, CPU):
        module.forward(x)
    assert list(module.__dict__) == keys  # what was made inside is gone again
    assert not module._buffers


def test_everything_is_put_back_when_the_module_raises():
    module = nn.BatchNorm1d(3)
    buffers = dict(module.named_buffers())
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"), isolated(module, CPU):
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
    assert gradient_after_a_run_under_autocast(lambda m: isolated(m, CPU)) is not None


@pytest.mark.skipif(
    torch.__version__ >= "2.2", reason="torch 2.1 is known to have the fault, 2.13 to be free of it"
)
def test_without_the_guard_autocasts_cache_swallows_the_gradient():
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient_after_a_run_under_autocast(lambda m: torch.no_grad())


class Collects(nn.Module):
    """Appends to lists, fills caches and writes into plain tensors, as mixture-of-experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.losses, self.cache, self.average = [], {}, torch.zeros(2)

    def forward(self, x: torch.Tensor) -> None:
        self.losses.append(x)
        self.cache["x"] = x
        self.average.mul_(0.9).add_(x)


def test_lists_dicts_and_plain_tensors_are_put_back():
    module = Collects()
    before = (module.losses, module.cache, module.average)
    with isolated(module, CPU):
        module.forward(torch.ones(2))
        assert len(module.losses) == len(module.cache) == 1
        assert module.average.sum() == 2
    assert all(
        a is b for a, b in zip(before, (module.losses, module.cache, module.average), strict=True)
    )
    assert module.losses == []
    assert module.cache == {}
    assert module.average.sum() == 0
    assert module.average._version == 0


class Shares(nn.Module):
    """Containers of several kinds, nested, shared with a child, with tensors in them."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Module()
        self.child.cache = self.cache = {}
        self.nested = {"a": [torch.zeros(2)]}
        self.seen = defaultdict(list)
        self.counts = Counter()
        self.array = np.zeros(2)
        self.nested["itself"] = self.nested

    def forward(self, x: torch.Tensor) -> None:
        self.child.cache["k"] = x
        self.cache.pop("k")  # raises unless the two are still one
        self.nested["a"][0].add_(x)
        self.nested["a"].append(x)
        self.seen["x"].append(x)
        self.counts["calls"] += 1
        self.array += 1
        if not hasattr(self, "late"):
            self.late = nn.Linear(2, 2)


def test_shared_and_nested_containers_arrays_and_late_modules():
    module = Shares()
    with isolated(module, CPU):
        module.forward(torch.ones(2))
        assert module.counts["calls"] == 1
    assert module.child.cache is module.cache
    assert module.cache == {}
    assert len(module.nested["a"]) == 1
    assert module.nested["itself"] is module.nested
    assert module.nested["a"][0].sum() == 0
    assert not module.seen
    assert not module.counts
    assert module.array.sum() == 0
    assert not hasattr(module, "late")


def test_inside_nothing_is_saved_through_the_hooks_of_checkpointing():
    packed = []
    x = torch.randn(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        with isolated(nn.Linear(3, 3), CPU), torch.enable_grad():
            x.sin().exp()
        assert packed == []
        x.sin()
        assert len(packed) == 1


def gradient_under_parametrize_cached(prepare) -> torch.Tensor | None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    with nn.utils.parametrize.cached():
        with prepare(module):
            module.forward(torch.randn(3, 4))
        module(torch.randn(3, 4)).sum().backward()
    return module.parametrizations.weight.original1.grad


def test_under_parametrize_cached_the_weights_still_get_their_gradient():
    assert gradient_under_parametrize_cached(lambda m: isolated(m, CPU)) is not None


@pytest.mark.negative_control
def test_without_the_guard_the_cache_of_parametrize_swallows_the_gradient():
    assert gradient_under_parametrize_cached(lambda m: torch.no_grad()) is None


class CannotBeCopied(dict):
    def __copy__(self) -> None:
        raise OSError("no")


class ReadOnly(dict):
    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("read-only")


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


NOT_COPIED = {
    "ufunc": np.add,
    "dtype": np.dtype("f4"),
    "module": np,
    "copy raises": CannotBeCopied(a=1),
    "read-only": ReadOnly(a=torch.ones(2)),
    "proxy": MappingProxyType({"a": 1}),
    "deep": nested(100_000),
    "generator": (i for i in range(3)),
    "generator of the system": random.SystemRandom(),
}


@pytest.mark.parametrize("value", NOT_COPIED.values(), ids=NOT_COPIED)
def test_what_cannot_be_copied_stays_as_it_is_and_the_rest_is_kept(value):
    module = nn.Module()
    module.before, module.value = [1], value
    with isolated(module, CPU) as begin:
        for _ in range(2):
            begin()
            assert module.value is value
            module.before.append(3)
            assert module.before == [1, 3]
    assert module.before == [1]
    assert module.value is value


def test_a_copy_that_fails_leaves_no_unfinished_copies_behind():
    shared, memo = [1], {}
    bad = {"shared": shared, "bad": ReadOnly(a=1)}
    assert private_copy(bad, memo) is bad
    assert memo == {}
    assert private_copy(shared, memo) is not shared


Pair = namedtuple("Pair", "total count")


class Keeps(nn.Module):
    """State in objects that are neither lists nor dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(torch.zeros(2), [0])
        self.space = SimpleNamespace(total=torch.zeros(2), calls=0)
        self.user = UserDict(total=torch.zeros(2))
        self.python, self.numpy = random.Random(0), np.random.default_rng(0)
        self.legacy = np.random.RandomState(0)

    def forward(self, x: torch.Tensor) -> list[float]:
        for total in (self.pair.total, self.space.total, self.user["total"]):
            total.add_(x)
        self.pair.count[0] += 1
        self.space.calls += 1
        return [self.python.random(), self.numpy.random(), self.legacy.random_sample()]


def test_named_tuples_namespaces_and_own_generators_are_kept():
    module, x = Keeps(), torch.ones(2)
    expected = Keeps()(x)
    with isolated(module, CPU) as begin:
        first = module.forward(x)
        begin()
        assert first == module.forward(x) == expected
        assert module.pair.count == [1]
        assert isinstance(module.pair, Pair)
    assert (module.pair.count, module.space.calls) == ([0], 0)
    assert not any(t.any() for t in (module.pair.total, module.space.total, module.user["total"]))
    assert module(x) == expected


def generators_set(monkeypatch, forward) -> set[str]:
    """Which generators are set when this runs in isolation."""
    seen = set()
    for owner, name in ((random, "setstate"), (np.random, "set_state"), (torch, "set_rng_state")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda s, n=name, f=real: seen.add(n) or f(s))
    with isolated(nn.Linear(2, 2), CPU) as begin:
        forward()
        begin()
        forward()
    return seen


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda: None, set()),
        (random.random, {"setstate"}),
        (np.random.rand, {"set_state"}),
        (lambda: np.random.randn(1), {"set_state"}),
        (lambda: torch.rand(1), {"set_rng_state"}),
    ],
    ids=["none", "python", "numpy", "numpy normal", "torch"],
)
def test_only_generators_that_were_drawn_from_are_set(monkeypatch, forward, names):
    assert generators_set(monkeypatch, forward) == names


@pytest.mark.negative_control
def test_without_the_comparison_all_of_them_would_be_set(monkeypatch):
    monkeypatch.setattr(isolation, "_same", lambda one, other: False)
    every = {"setstate", "set_state", "set_rng_state"}
    assert generators_set(monkeypatch, lambda: None) == every
