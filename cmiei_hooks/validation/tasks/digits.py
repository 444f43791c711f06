"""The handwritten digits of the demonstration: three views of one image."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from ...demo import digits
from ..accuracy import classification

__all__ = ["train"]


def train(attach: Any, seed: int, *, epochs: int = 30) -> dict[str, float]:
    """Train the demonstration's model from a seed; see ``accuracy.classification``.

    Args:
        attach: as ``cmiei_hooks.attach``.
        seed: of weights and batches; the data is always the same.
        epochs: of the training.
    """
    torch.manual_seed(seed)
    model, loader = digits.make_model(), digits.make_train_loader(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    splits = [digits.WIDTH] * len(digits.VIEWS)
    handle = attach(model, head="classifier", splits=splits, names=digits.VIEWS)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        model.train()
        for *views, label in loader:
            loss = functional.cross_entropy(model(*views), label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
    handle.remove()
    head = model.get_submodule("classifier")
    return classification(model, head, splits, digits.VIEWS, digits.make_test_loader())
