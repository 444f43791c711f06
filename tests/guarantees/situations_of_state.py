"""State that a head keeps, copies, values at the limits, incomplete batches, and sinks."""

from __future__ import annotations

import collections
import copy
import math
import pickle
import random
import types
from typing import Any

import numpy as np
import torch
from situations import (
    BATCH,
    CLASSES,
    WIDTHS,
    Net,
    attach,
    data,
    notices,
    situation,
    situations,
    train,
)
from torch import Tensor, nn

import cmiei_hooks

WIDTH = sum(WIDTHS)

Pair = collections.namedtuple("Pair", "t n")


class Stateful(nn.Linear):
    """A head whose logits depend on how often it was called."""

    def __init__(self, kind: str) -> None:
        super().__init__(WIDTH, CLASSES)
        self.kind = kind
        self.state: Any = STATES[kind][0]()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + float(STATES[self.kind][1](self.state)) / 10)


def grown(values: Any) -> float:
    values.append(1.0)
    return len(values)


def in_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


STATES: dict[str, tuple[Any, Any]] = {
    "a named tuple": (lambda: Pair(torch.zeros(2), [0]), lambda s: s.t.add_(1)[0]),
    "a namespace": (lambda: types.SimpleNamespace(t=torch.zeros(2)), lambda s: s.t.add_(1)[0]),
    "an ordered dict": (
        lambda: collections.OrderedDict(a=torch.zeros(2)),
        lambda s: s["a"].add_(1)[0],
    ),
    "a dict of lists": (lambda: collections.defaultdict(list), lambda s: grown(s["a"])),
    "a counter": (collections.Counter, lambda s: s.update("a") or s["a"]),
    "a queue": (lambda: collections.deque(maxlen=9), grown),
    "an array": (lambda: np.zeros(2), lambda s: np.add(s, 1, out=s)[0]),
    "a masked array": (lambda: np.ma.zeros(2), lambda s: s.__iadd__(1)[0]),
    "a generator of NumPy": (lambda: np.random.default_rng(0), lambda s: s.random()),
    "an old generator of NumPy": (lambda: np.random.RandomState(0), lambda s: s.rand()),
    "a generator of Python": (lambda: random.Random(0), lambda s: s.random()),
    "the generator of NumPy": (lambda: None, lambda s: np.random.rand()),
    "the generator of Python": (lambda: None, lambda s: random.random()),
    "the generator of torch": (lambda: None, lambda s: torch.rand(())),
    "a function of NumPy": (lambda: np.add, lambda s: s(1, 2)),
    "a list in itself": (in_itself, grown),
}


@situations("state that must be kept", dict.fromkeys(STATES, True))
def silent_with(kind: str) -> bool:
    found = []
    for attached in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        model = Net(Stateful(kind))
        if attached:
            attach(model, p_max=0.0)
        found.append(train(model))
    return found[0] == found[1]


COPIES: dict[str, Any] = {
    "a deep copy": copy.deepcopy,
    "a pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@situations("copies", dict.fromkeys(COPIES, (("InertHandle",) * 4, 0)))
def handles_in(kind: str) -> tuple[tuple[str, ...], int]:
    model = Net()
    model.mine = attach(model)
    model.list, model.dict = [model.mine], {"a": (model.mine,)}
    twin = COPIES[kind](model)
    train(twin)
    twin.mine.set_epoch(1)
    handles = [twin.mine, *twin.list, *twin.dict["a"], copy.deepcopy(twin.mine)]
    return tuple(type(handle).__name__ for handle in handles), model.mine.step


@situation("values", (0.0, 0.0, 0))
def no_modality_has_an_influence() -> tuple[float, float, int]:
    model = Net()
    nn.init.zeros_(model.head.weight)
    handle = attach(model)
    train(model, 1)
    metrics = handle.metrics()
    assert handle.last is not None
    return metrics["Hist_m0"], metrics["Hist_m1"], int((handle.last.substituted >= 0).sum())


@situation("values", (1.0, 0.0, BATCH))
def one_modality_has_all_the_influence() -> tuple[float, float, int]:
    model = Net()
    nn.init.zeros_(model.head.weight[:, WIDTHS[0] :])
    handle = attach(model)
    train(model, 1)
    metrics = handle.metrics()
    assert handle.last is not None
    return metrics["Hist_m0"], metrics["Hist_m1"], int((handle.last.substituted >= 0).sum())


@situation("values", (1, 1))
def one_broken_sample_stays_alone() -> tuple[int, int]:
    model = Net()
    handle = attach(model)
    inputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda m, args: inputs.append(args[0].detach()))
    x, z = data()
    x[0] = math.nan
    model(x, z)
    return handle.non_finite, int(inputs[0].isnan().any(1).sum())


SCALES: dict[str, tuple[torch.dtype, float]] = {
    "float32": (torch.float32, 3),
    "float64": (torch.float64, 3),
    "ten millions": (torch.float32, 1e7),
    "1e20": (torch.float32, 1e20),
}


@situations("values", dict.fromkeys(SCALES, True))
def influence_of_logits_up_to(name: str) -> bool:
    dtype, scale = SCALES[name]
    model = Net().to(dtype)
    model.features, features = lambda x, z: features(x.to(dtype), z.to(dtype)), model.features
    with torch.no_grad():
        model.head.weight.mul_(scale)
    exact = copy.deepcopy(model.head).double()
    handle = attach(model, p_max=0.0)
    x, z = data()
    model(x, z)
    with torch.no_grad():
        inputs = model.features(x, z).double()
        logs = exact(inputs).log_softmax(1)
        without = exact(inputs.index_fill(1, torch.arange(WIDTHS[0]), 0)).log_softmax(1)
    assert handle.last is not None
    right = (logs.exp() * (logs - without)).sum(1)
    return torch.allclose(handle.last.influence[:, 0].double(), right, rtol=1e-3, atol=1e-5)


class Masked(nn.Linear):
    def __init__(self, value: float) -> None:
        super().__init__(WIDTH, CLASSES)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).index_fill(1, torch.tensor([3]), self.value)


@situations("values", dict.fromkeys(["-inf", "-1e9", "-3.4028234e38"], True))
def a_class_is_masked_by(value: str) -> bool:
    masked, kept = Net(Masked(float(value))), Net()
    kept.head = nn.Linear(WIDTH, CLASSES - 1)
    others = [c for c in range(CLASSES) if c != 3]
    with torch.no_grad():
        kept.head.weight.copy_(masked.head.weight[others])
        kept.head.bias.copy_(masked.head.bias[others])
    kept.a, kept.v = copy.deepcopy(masked.a), copy.deepcopy(masked.v)
    found = []
    for model in (masked, kept):
        handle = attach(model, p_max=0.0)
        train(model, 1)
        assert handle.last is not None
        found.append(handle.last.influence)
    return torch.allclose(*found, atol=1e-6)


@situation("a copy of the model is trained", (("called",), 0))
def deep_copy() -> tuple[tuple[str, ...], int]:
    model = Net()
    handle = attach(model)
    handle.set_epoch(0)
    train(copy.deepcopy(model))
    handle.set_epoch(1)
    return notices(handle), handle.step


@situation("a copy of the model is trained", 2)
def shallow_copy_shares_the_head() -> int:
    model = Net()
    handle = attach(model)
    train(copy.copy(model), 2)
    return handle.step


ERRORS = {error.__name__: error for error in (OSError, StopIteration, RecursionError)}


@situations("sinks that fail", dict.fromkeys(ERRORS, 3))
def training_goes_on_after(error: str) -> int:
    def sink(record: cmiei_hooks.LogRecord) -> None:
        if record.event != "start":
            raise ERRORS[error]

    model = Net()
    handle = attach(model, log=sink)
    train(model)
    handle.remove()
    return handle.step


@situation("sinks that fail", (["KeyboardInterrupt"], 0))
def an_interrupt_in_a_sink_leaves_nothing_behind() -> tuple[list[str], int]:
    def sink(record: cmiei_hooks.LogRecord) -> None:
        if record.event == "figures":
            raise KeyboardInterrupt

    model, raised = Net(), []
    handle = attach(model, log=sink)
    try:
        train(model)
    except KeyboardInterrupt as error:
        raised.append(type(error).__name__)
    handle.remove()
    modules = model.modules()
    return raised, sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@situation("sinks that fail", 1)
def a_sink_may_remove_the_handle() -> int:
    model, box = Net(), []
    box.append(attach(model, log=lambda r: box[0].remove() if r.event == "figures" else None))
    train(model)
    return box[0].step


class Tokens(nn.Module):
    """Five tokens of the first modality, and of the second as many as there are."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.head, self.widths = nn.Linear(4, 8), Pool(), list(widths)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        first = self.encoder(x)[:, None].expand(-1, 5, -1)
        rest = self.encoder(z)[:, None].expand(-1, self.widths.pop(0), -1)
        return self.head(torch.cat([first, rest], 1))


class Pool(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.tanh().mean(1))


ROWS = {"3, 7, 1": ((3, 7, 1), 0), "3, 0, 1": ((3, 0, 1), 1), "0, 3, 1": ((0, 3, 1), 1)}


@situations("a missing modality", {name: (3, skipped) for name, (_, skipped) in ROWS.items()})
def sequences_of_lengths(name: str) -> tuple[int, int]:
    model = Tokens(ROWS[name][0])
    handle = attach(model, splits=(5, None), dim=1)
    train(model)
    return handle.step, handle.skipped
