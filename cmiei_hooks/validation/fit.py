"""The plain training loop of the classification tasks, with the lines that C-MIEI takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..demo import WIDTH
from .accuracy import classification

__all__ = ["fit"]

Batches = Iterable[Sequence[Tensor]]


def fit(
    attach: Any,
    model: nn.Module,
    names: Sequence[str],
    train: Batches,
    test: Batches,
    epochs: int,
) -> dict[str, float]:
    """Train with cross-entropy and Adam; the figures of ``accuracy.classification``.

    Args:
        attach: as ``cmiei_hooks.attach``.
        model: a ``ViewsModel`` of the demonstration.
        names: of the views.
        train: batches of views and labels.
        test: the same.
        epochs: of the training.
    """
    splits = [WIDTH] * len(names)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    handle = attach(model, head="classifier", splits=splits, names=names)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        model.train()
        for *views, label in train:
            loss = functional.cross_entropy(model(*views), label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
    handle.remove()
    return classification(model, model.get_submodule("classifier"), splits, names, test)
