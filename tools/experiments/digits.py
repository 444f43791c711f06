"""The handwritten digits of the demonstration: three views of each image.

``cmiei validate --train tools.experiments.digits:train``
"""

from __future__ import annotations

from typing import Any

import torch

from cmiei_hooks.demo import digits
from cmiei_hooks.validation.classifier import fit

__all__ = ["train"]


def train(attach: Any, seed: int, *, epochs: int = 30) -> dict[str, float]:
    """Train the model of the demonstration; return the metrics of ``classifier.evaluate``.

    Args:
        attach: called like ``cmiei_hooks.attach``.
        seed: decides the weights and the batches; the data is always the same.
        epochs: the number of epochs.
    """
    torch.manual_seed(seed)
    loaders = digits.make_train_loader(seed), digits.make_test_loader()
    return fit(attach, digits.make_model(), digits.VIEWS, *loaders, epochs)
