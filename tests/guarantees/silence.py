"""Two trainings from one seed, with and without the tool; everything that can be compared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import cmiei_hooks

WIDTHS = [8, 8, 8]
STEPS = 10
"""Optimizer steps of a cell. A tool without one of its guards differs at the first of them."""
LONG = 30
"""Optimizer steps of the cells in eager mode."""
ACCUMULATE = 2
"""Forwards and backwards for one optimizer step."""


class Chain(nn.Sequential):
    """The tool is attached to its parts, as to a chain."""


HEADS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(24, 5),
    "batch norm, dropout": lambda: nn.Sequential(
        nn.BatchNorm1d(24), nn.Dropout(0.4), nn.Linear(24, 5)
    ),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 8)),
        nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(24, 5),
    ),
    "in-place relu": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(24, 5)),
    # unlike that of ReLU, its second application in place changes the tensor again
    "in-place leaky relu": lambda: nn.Sequential(nn.LeakyReLU(0.3, True), nn.Linear(24, 5)),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(24, 5))),
    "legacy spectral norm": lambda: spectral_norm(nn.Linear(24, 5)),
    "legacy weight norm": lambda: weight_norm(nn.Linear(24, 5)),
    "chain": lambda: Chain(nn.BatchNorm1d(24), nn.Dropout(0.4), weight_norm(nn.Linear(24, 5))),
}

PRECISIONS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "fp32": contextlib.nullcontext,
    "bf16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


class Model(nn.Module):
    """An encoder with BatchNorm and dropout, concatenation, a head; perhaps checkpointed.

    One encoder computes the features of all modalities: the tool never sees it.
    """

    def __init__(
        self, head: nn.Module, recompute: str = "nothing", reentrant: bool = False
    ) -> None:
        super().__init__()
        features = sum(WIDTHS)
        self.encoder = nn.Sequential(
            nn.Linear(6, features), nn.BatchNorm1d(features), nn.Dropout(0.2)
        )
        self.classifier = head
        self.recompute, self.reentrant = recompute, reentrant

    def fuse(self, x: Tensor) -> Tensor:
        return torch.cat(self.encoder(x).split(WIDTHS, dim=-1), dim=-1)

    def block(self, x: Tensor) -> Tensor:
        return self.classifier(self.fuse(x))

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute == "head":
            return checkpoint(self.classifier, self.fuse(x), use_reentrant=self.reentrant)
        if self.recompute == "block":
            # the reentrant kind needs an input that requires grad
            return checkpoint(self.block, x.requires_grad_(), use_reentrant=self.reentrant)
        # Not through block(): torch.compile would compile one more frame.
        return self.classifier(self.fuse(x))


OBSERVING = {"k": 1, "p_max": 0.0, "warmup_epochs": 0, "seed": 1, "log": False}
"""Measures in every call, and would substitute if the cap let it."""


def attach(model: nn.Module, **settings: Any) -> cmiei_hooks.Handle:
    chain = next((module for module in model.modules() if isinstance(module, Chain)), ())
    head = [f"classifier.{i}" for i in range(len(chain))] if chain else "classifier"
    options = {"head": head, "splits": WIDTHS} | OBSERVING | settings
    handle = cmiei_hooks.attach(model, **options)
    handle.set_epoch(0)
    return handle


def train(
    model: nn.Module,
    wrap: Callable[[nn.Module], nn.Module],
    precision: str,
    attach_when: str,
    steps: int = STEPS,
    seed: int = 0,
    **settings: Any,
) -> list[tuple[str, Any]]:
    """Train, and return by name all losses, gradients, parameters, buffers, buffer versions, the
    optimizer state and the generator state.

    Args:
        attach_when: ``never``, or ``before`` or ``after`` the wrapping.
    """
    seen: list[tuple[str, Any]] = []
    handle = attach(model, **settings) if attach_when == "before" else None
    wrapped = wrap(model)
    if attach_when == "after":
        handle = attach(wrapped, **settings)
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    data = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for step in range(steps):
        optimizer.zero_grad()
        for micro in range(ACCUMULATE):
            x = torch.randn(8, 6, generator=data)
            y = torch.randint(5, (8,), generator=data)
            with PRECISIONS[precision]():
                loss = nn.functional.cross_entropy(wrapped(x), y) / ACCUMULATE
            loss.backward()
            seen.append((f"loss {step}.{micro}", loss.detach().clone()))
            seen += [(f"grad {step}.{micro} {n}", local(p.grad)) for n, p in parameters(wrapped)]
        optimizer.step()
        seen += [(f"parameter {step} {n}", local(p)) for n, p in parameters(wrapped)]
        for name, buffer in wrapped.named_buffers():
            seen.append((f"buffer {step} {name}", local(buffer)))
            seen.append((f"version {step} {name}", buffer._version))
    for index, state in optimizer.state_dict()["state"].items():
        seen += [(f"optimizer {index} {key}", local(value)) for key, value in state.items()]
    seen.append(("generator", torch.get_rng_state()))
    if handle is not None:
        # A comparison with a tool that did nothing would prove nothing.
        assert handle.step == steps * ACCUMULATE, f"{handle.step} calls were seen"
        assert handle.metrics()["CI_r"] > 0
        handle.remove()
    return seen


def parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters())


def local(tensor: Tensor | None) -> Tensor | None:
    """A copy of what this rank holds."""
    if tensor is None:
        return None
    tensor = tensor.detach()
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).clone()


def differences(one: list[tuple[str, Any]], two: list[tuple[str, Any]]) -> list[str]:
    """The names of everything that is not equal to the bit."""
    if [name for name, _ in one] != [name for name, _ in two]:
        return ["the names"]

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return bool(a == b)

    return [name for (name, a), (_, b) in zip(one, two, strict=True) if not equal(a, b)]
