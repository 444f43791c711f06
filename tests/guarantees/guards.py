"""The guards that keep the tool silent, each with the head that shows what it is good for."""

from __future__ import annotations

import contextlib
from unittest import mock

import torch
from silence import HEADS
from torch import Tensor, nn


class Collecting(nn.Linear):
    """Collects auxiliary losses, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__(24, 5)
        self.losses: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.losses.append(x.detach().mean())
        return super().forward(x) * (1 + torch.stack(self.losses).sum())


GUARDED_HEADS = HEADS | {"collecting": Collecting}


def nothing(*_: object) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext(lambda memo: None)


BUFFERS = ("counterfactual.isolation._buffers_lent", nothing)

GUARDS = {
    "buffers are lent": ("batch norm, dropout", *BUFFERS),
    "buffers of instance norm": ("instance norm", *BUFFERS),
    "power iteration": ("spectral norm", *BUFFERS),
    "random numbers are rewound": (
        "batch norm, dropout",
        "counterfactual.isolation._randomness",
        lambda device: lambda: None,
    ),
    "every run has a copy": (
        "in-place leaky relu",
        "fusion.captured_call.Captured.copies",
        lambda captured: dict(captured.tensors),
    ),
    "attributes are kept": ("collecting", "counterfactual.isolation._attributes_kept", nothing),
}
"""The head; the function that is the guard; what takes its place in the negative control."""


def without(guard: str) -> contextlib.AbstractContextManager[object]:
    """The tool without one of its guards."""
    _, function, replacement = GUARDS[guard]
    return mock.patch(f"cmiei_hooks.{function}", replacement)
