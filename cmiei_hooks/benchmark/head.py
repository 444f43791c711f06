"""One estimate at a linear head, against one forward of it and the four that the method names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..config import Config
from ..functional import counterfactual_influence
from ..head import locate
from ..linear import influence_of_linear

__all__ = ["estimates"]

MODALITIES = 3


def estimates(
    batch: int, width: int, classes: int, device: torch.device
) -> dict[str, Callable[[], object]]:
    """One forward; complete and without each modality; the estimate of the hook.

    Args:
        batch: rows of the features.
        width: of one modality.
        classes: of the head.
        device: where.
    """
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("classifier", nn.Linear(MODALITIES * width, classes))
    model.to(device)
    features = torch.randn(batch, MODALITIES * width, device=device)
    head = locate(model, Config(head="classifier", splits=(width,) * MODALITIES))
    captured = head.partition.read((features,), {})

    def without(modality: int) -> Tensor:
        changed = features.clone()
        changed[:, modality * width : (modality + 1) * width] = 0
        logits: Tensor = model(changed)
        return logits

    def published() -> None:
        with torch.no_grad():
            left = torch.stack([without(m) for m in range(MODALITIES)])
            counterfactual_influence(model(features), left)

    def forward() -> None:
        with torch.no_grad():
            model(features)

    return {
        "one head forward": forward,
        "four forwards": published,
        "the hook's estimate": lambda: influence_of_linear(head, captured),
    }
