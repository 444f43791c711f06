"""Situations: small trainings and audits, each with the right outcome.

Each is a relative of a fault that was found in the field. It belongs to a kind, and stands beside
the others of its kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import cmiei_hooks

WIDTHS = (8, 6)
CLASSES = 5
BATCH = 16


@dataclass(frozen=True)
class Situation:
    """One situation."""

    kind: str
    run: Callable[[], Any]
    right: Any
    """What ``run`` must return."""


SITUATIONS: dict[str, Situation] = {}


def situation(kind: str, right: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a situation under the name of the function."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        _add(run.__name__, Situation(kind, run, right))
        return run

    return add


def situations(
    kind: str, right: Mapping[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add one situation for each name: ``run(name)`` must return what is right for it."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        for name, outcome in right.items():
            _add(f"{run.__name__} {name}", Situation(kind, partial(run, name), outcome))
        return run

    return add


def _add(name: str, new: Situation) -> None:
    name = name.replace("_", " ")
    assert name not in SITUATIONS
    SITUATIONS[name] = new


class Net(nn.Module):
    """Two encoders, a head, and what ``finish(model, logits, features)`` makes of its logits."""

    def __init__(self, head: nn.Module | None = None, finish: Any = None) -> None:
        super().__init__()
        self.a, self.v = nn.Linear(4, WIDTHS[0]), nn.Linear(4, WIDTHS[1])
        self.head = head or nn.Linear(sum(WIDTHS), CLASSES)
        self.extra = nn.Linear(CLASSES, 3)
        self.finish = finish

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.cat([self.a(x).relu(), self.v(z).relu()], 1)

    def forward(self, x: Tensor, z: Tensor) -> Any:
        features = self.features(x, z)
        logits = self.head(features)
        return logits if self.finish is None else self.finish(self, logits, features)


def data(batch: int = BATCH) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 4), torch.randn(batch, 4)


def attach(model: nn.Module, **settings: Any) -> cmiei_hooks.Handle:
    """Attached to the head, measuring in every step, and substituting in all samples."""
    acting = {"k": 1, "p_max": 1.0, "abs_thr": 0.0, "rel_thr": 1.0, "seed": 1, "log": False}
    if "warmup_steps" not in settings:
        acting["warmup_epochs"] = 0
    given = {"head": "head", "splits": WIDTHS} | acting | settings
    return cmiei_hooks.attach(model, **given)


def total(out: Any) -> Tensor:
    """A loss from whatever a model returns."""
    if isinstance(out, Tensor):
        return out.float().square().mean()
    found = out.values() if isinstance(out, dict) else out
    return torch.stack([total(x) for x in found if x.is_floating_point()]).sum()


def train(model: nn.Module, steps: int = 3, batch: int = BATCH, dtype: Any = None) -> list[float]:
    """The losses of a training; the numbers begin anew, so that two trainings can be compared."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    losses = []
    for _ in range(steps):
        loss = total(model(*(x.to(dtype or x.dtype) for x in data(batch))))
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def notices(handle: cmiei_hooks.Handle) -> tuple[str, ...]:
    """What was warned about so far."""
    handle.metrics()
    handle.remove()
    return tuple(sorted(handle._step.notices._given))


def quietly(run: Callable[[], Any]) -> Any:
    """What ``run`` returns, or the name of the error of this package that it raises."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run()
        except cmiei_hooks.CMIEIError as error:
            return type(error).__name__


def by_hand(model: Net, x: Tensor, z: Tensor) -> Tensor:
    """The influences ``[B, M]`` by the formula, with two forwards of the head."""
    with torch.no_grad():
        features = model.features(x, z)
        logs = model.head.forward(features).log_softmax(-1)
        rows = []
        for block in torch.arange(sum(WIDTHS)).split(WIDTHS):
            without = model.head.forward(features.index_fill(1, block, 0)).log_softmax(-1)
            terms = logs.exp() * (logs - without)
            rows.append(terms.masked_fill(logs.isneginf(), 0).sum(-1))  # a masked class
        return torch.stack(rows, 1)


def is_right(model: Net, handle: cmiei_hooks.Handle) -> bool:
    """Whether what is measured in one call is what the formula gives."""
    x, z = data()
    model(x, z)
    assert handle.last is not None
    return torch.allclose(handle.last.influence, by_hand(model, x, z), atol=1e-5)
