"""A plain training loop, with the two lines that C-MIEI takes in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Batches", "train_epochs"]

Batches = Iterable[Sequence[Tensor]]
"""Each batch holds the inputs of the model, then the labels int64 ``[B]``."""


def train_epochs(model: nn.Module, batches: Batches, epochs: int, handle: Any) -> Iterator[int]:
    """Train with cross-entropy and Adam; yields the number of epochs done after each of them.

    Args:
        model: returns logits ``[B, C]``.
        batches: one epoch of them.
        epochs: the number of epochs.
        handle: what ``attach`` returned for this model; it is removed at the end.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        model.train()
        for *inputs, label in batches:
            loss = functional.cross_entropy(model(*inputs), label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
        yield epoch + 1
    handle.remove()
