"""A plain multimodal model: one encoder for each view, concatenation, BatchNorm, classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WIDTH", "ViewsModel"]

WIDTH = 32
"""Features of one view in the input of the classifier."""


class ViewsModel(nn.Module):
    """One encoder for each view, concatenation, BatchNorm, classifier."""

    def __init__(self, view_widths: list[int], classes: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, WIDTH))
            for width in view_widths
        )
        self.bottleneck = nn.BatchNorm1d(WIDTH * len(view_widths))
        self.classifier = nn.Linear(WIDTH * len(view_widths), classes)

    def forward(self, *views: Tensor) -> Tensor:
        """Views ``[B, width]`` to logits ``[B, classes]``."""
        features = [encode(view) for encode, view in zip(self.encoders, views, strict=True)]
        logits: Tensor = self.classifier(self.bottleneck(torch.cat(features, dim=1)))
        return logits
