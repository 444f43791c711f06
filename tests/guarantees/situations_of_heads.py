"""Is the head what the user thinks: its output, its hooks, and what takes its place."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from situations import (
    CLASSES,
    WIDTHS,
    Net,
    attach,
    data,
    is_right,
    notices,
    situation,
    situations,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

WIDTH = sum(WIDTHS)
TARGETS = torch.arange(16) % CLASSES


def loss(logits: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(logits, TARGETS, **options)


class Cosine(nn.Module):
    """Cosine similarities with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, WIDTH))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class Margin(Cosine):
    """As ArcFace: the target's angle is enlarged."""

    def forward(self, x: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(x), F.normalize(self.weight)).clamp(-0.99, 0.99)
        target = F.one_hot(TARGETS, CLASSES).bool()
        return self.scale * torch.where(target, (cosine.acos() + 0.3).cos(), cosine)


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(CLASSES, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(x, self.prototypes)


HEADS = {
    "cosine with a learned scale": Cosine,
    "margin on the target": Margin,
    "distances to prototypes": Distances,
    "log-softmax": lambda: nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.LogSoftmax(1)),
    "non-negative": lambda: nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.ReLU()),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, CLASSES)),
}
FINISHES: dict[str, Any] = {
    "the loss only": lambda m, z, f: loss(z),
    "a loss with label smoothing": lambda m, z, f: loss(z, label_smoothing=0.1),
    "losses of samples": lambda m, z, f: loss(z, reduction="none"),
    "loss and features": lambda m, z, f: (loss(z), f),
    "loss and logits": lambda m, z, f: {"loss": loss(z), "logits": z},
    "an output with attributes": lambda m, z, f: OrderedDict(loss=loss(z), logits=z),
    "a loss with a projection": lambda m, z, f: loss(z) + m.extra(z).square().mean(),
    "coarse classes from the fine ones": lambda m, z, f: (z, m.extra(z)),
    "written into": lambda m, z, f: z.mul_(3.0),
    "a learned temperature": lambda m, z, f: z / m.extra.bias.exp().sum(),
    "scale and shift of each class": lambda m, z, f: z * m.extra.weight[0] + m.extra.weight[1],
    "logits without gradient": lambda m, z, f: (z.detach(), loss(z)),
    "classes and logits": lambda m, z, f: (z.argmax(1), z),
    "refined by its own probabilities": lambda m, z, f: z + m.extra(z.softmax(1)).sum(1, True),
    "the mean of two views": lambda m, z, f: (z + z.flip(0)) / 2,
}


@situations("a hidden layer as the head: no false alarm", dict.fromkeys(HEADS, ()))
def head(name: str) -> tuple[str, ...]:
    model = Net(HEADS[name]())
    handle = attach(model)
    train(model)
    return notices(handle)


@situations("a hidden layer as the head: no false alarm", dict.fromkeys(FINISHES, ()))
def model_returns(name: str) -> tuple[str, ...]:
    model = Net(finish=FINISHES[name])
    handle = attach(model)
    train(model)
    return notices(handle)


HIDDEN: dict[str, Any] = {
    "one layer": lambda m, z, f: m.extra(z.relu()),
    "the loss only": lambda m, z, f: F.cross_entropy(m.extra(z.relu()), TARGETS % 3),
    "a loss and logits": lambda m, z, f: {"l": m.extra(z).square().mean(), "logits": m.extra(z)},
    "a weight by a function": lambda m, z, f: F.linear(z.tanh(), m.extra.weight),
    "a cosine classifier": lambda m, z, f: F.linear(F.normalize(z), F.normalize(m.extra.weight)),
    "under checkpointing": lambda m, z, f: checkpoint(m.extra, z, use_reentrant=False),
}


@situations("a hidden layer as the head", dict.fromkeys(HIDDEN, ("output",)))
def hidden_behind(name: str) -> tuple[str, ...]:
    model = Net(finish=HIDDEN[name])
    handle = attach(model)
    train(model)
    return notices(handle)


ENDS: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "softmax": (lambda z: z.softmax(1), {}, ("probabilities",)),
    "softmax, away from 0": (lambda z: z.softmax(1).clamp(1e-7, 1), {}, ("probabilities",)),
    "two complements": (lambda z: torch.stack([z, 1 - z], 2).sigmoid()[:, 0], {}, ()),
    "sigmoid": (lambda z: z.sigmoid(), {}, ("probabilities",)),
    "sigmoid, bernoulli": (lambda z: z.sigmoid(), {"measure": "bernoulli"}, ("probabilities",)),
    "shares of evidence": (lambda z: F.normalize(z.exp(), 1, 1), {}, ("probabilities",)),
    "probabilities turned back": (lambda z: z.softmax(1), {"output": torch.log}, ()),
    "regression": (lambda z: z.softmax(1), {"measure": "squared"}, ()),
}


class Ends(nn.Linear):
    def __init__(self, end: Any) -> None:
        super().__init__(WIDTH, CLASSES)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x))


@situations(
    "probabilities instead of logits", {name: right for name, (_, _, right) in ENDS.items()}
)
def head_ends_in(name: str) -> tuple[str, ...]:
    end, settings, _ = ENDS[name]
    model = Net(Ends(end))
    handle = attach(model, **settings)
    train(model)
    return notices(handle)


HOOKS: dict[str, tuple[Any, Any]] = {
    "the same": (lambda m, a, out: out, True),
    "nothing": (lambda m, a, out: None, True),
    "a copy": (lambda m, a, out: out.clone(), True),
    "a detached copy": (lambda m, a, out: out.detach(), True),
    "a multiple": (lambda m, a, out: out * 2, "HeadError"),
    "nothing, but writes into it": (
        lambda m, a, out: SimpleNamespace(z=out.mul_(2)).z,
        "HeadError",
    ),
    "a shift of one class": (lambda m, a, out: out + torch.eye(CLASSES)[0], "HeadError"),
}

RIGHT = {name: right for name, (_, right) in HOOKS.items()}


@situations("a forward hook that changes the logits", RIGHT)
def a_hook_registered_before_returns(name: str) -> bool:
    model = Net()
    model.head.register_forward_hook(HOOKS[name][0])
    return is_right(model, attach(model, p_max=0.0))


@situations("a forward hook that changes the logits", RIGHT)
def a_hook_registered_after_returns(name: str) -> bool:
    model = Net()
    handle = attach(model, p_max=0.0)
    model.head.register_forward_hook(HOOKS[name][0])
    return is_right(model, handle)


@situation("weight hooks of torch", [True] * 3)
def pruned_more_in_every_step() -> list[bool]:
    model, found = Net(), []
    handle = attach(model, p_max=0.0)
    for _ in range(3):
        prune.l1_unstructured(model.head, "weight", amount=0.3)
        found.append(is_right(model, handle))
    return found


def scaled(model: Net) -> None:
    forward = model.head.forward
    model.head.forward = lambda x: forward(x) * 10


def reassigned(model: Net) -> None:
    model.head.weight = nn.Parameter(torch.randn(CLASSES, WIDTH) * 3)


CHANGES: dict[str, Any] = {
    "its forward is replaced": scaled,
    "its weight is replaced": reassigned,
    "weight norm": lambda model: parametrizations.weight_norm(model.head),
    "pruning": lambda model: prune.random_unstructured(model.head, "weight", 0.5),
    "its biases mask a class": lambda model: model.head.bias.data[3].fill_(-torch.inf),
}


@situations("the head changes after attach: measured as it is now", dict.fromkeys(CHANGES, True))
def then(name: str) -> bool:
    model = Net()
    handle = attach(model, p_max=0.0)
    CHANGES[name](model)
    return is_right(model, handle)


class Around(nn.Module):
    """Holds a module under a name, and calls it."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, inner)
        self.name = name

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self, self.name)(*inputs)


def adapter(model: Net) -> None:
    model.head = Around(model.head, "base_layer")


def backup(model: Net) -> None:
    model.old, model.head = model.head, nn.Linear(WIDTH, CLASSES)


def moved(model: Net) -> None:
    model.other = model.head
    model._modules["head"] = Around(model.other, "_orig_mod")


PLACES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "an adapter around it": (adapter, ("head",)),
    "another one": (lambda m: setattr(m, "head", nn.Linear(WIDTH, 7)), ("head",)),
    "an adapter beside it": (lambda m: setattr(m, "a", Around(m.a, "base_layer")), ()),
    "itself, compiled": (moved, ()),
}


@situations(
    "another module takes the head's place", {name: right for name, (_, right) in PLACES.items()}
)
def in_its_place(name: str) -> tuple[str, ...]:
    model = Net()
    handle = attach(model)
    handle.set_epoch(0)
    train(model, 1)
    PLACES[name][0](model)
    train(model, 2)
    handle.set_epoch(1)
    return notices(handle)


@situations(
    "the whole model is wrapped after attach",
    dict.fromkeys(["module", "_orig_mod", "model", "base_model"], ((), 3)),
)
def the_model_inside(wrapper: str) -> tuple[tuple[str, ...], int]:
    model = Net()
    handle = attach(model)
    train(Around(model, wrapper))
    return notices(handle), handle.step


@situation("the head is called with data of another kind", "InputError")
def integers_at_the_head() -> None:
    model = Net()
    attach(model)
    model.features = lambda x, z: torch.ones(16, WIDTH, dtype=torch.long)
    model(*data())
