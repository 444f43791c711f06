"""The handwritten digits of the demonstration: three views of one image."""

from __future__ import annotations

from typing import Any

import torch

from cmiei_hooks.demo import digits
from cmiei_hooks.validation.fit import fit

__all__ = ["train"]


def train(attach: Any, seed: int, *, epochs: int = 30) -> dict[str, float]:
    """Train the demonstration's model from a seed; see ``accuracy.classification``.

    Args:
        attach: as ``cmiei_hooks.attach``.
        seed: of weights and batches; the data is always the same.
        epochs: of the training.
    """
    torch.manual_seed(seed)
    loaders = digits.make_train_loader(seed), digits.make_test_loader()
    return fit(attach, digits.make_model(), digits.VIEWS, *loaders, epochs)
