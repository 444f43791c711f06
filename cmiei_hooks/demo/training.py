"""A plain training loop, and the same loop with the three lines that C-MIEI takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

import cmiei_hooks

from . import digits
from .views_model import WIDTH

EPOCHS = 30
SPLITS = [WIDTH] * len(digits.VIEWS)


def train(seed: int, equalise: bool) -> Iterator[tuple[int, nn.Module]]:
    """Train from the seed; yields after each epoch how many are done, and the model."""
    torch.manual_seed(seed)
    model, loader = digits.make_model(), digits.make_train_loader(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=SPLITS, names=digits.VIEWS, enabled=equalise, log=equalise
    )
    for epoch in range(EPOCHS):
        handle.set_epoch(epoch)
        model.train()
        for *views, label in loader:
            loss = functional.cross_entropy(model(*views), label)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
        yield epoch + 1, model
    handle.remove()
