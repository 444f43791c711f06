"""A plain multimodal problem: real digits, three views, a three-encoder model.

Nothing here knows of this package; it stands for the code that a user already has.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

VIEWS = ("pixels", "fourier", "profiles")
WIDTH = 32
CLASSES = 10


class ViewsModel(nn.Module):
    """One encoder for each view, concatenation, BatchNorm, classifier."""

    def __init__(self, view_widths: list[int], classes: int = CLASSES) -> None:
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


def make_model() -> nn.Module:
    """The untrained model."""
    return ViewsModel([view.shape[1] for view in _views(load_digits().images)])


def make_train_loader(seed: int = 0) -> DataLoader[tuple[Tensor, ...]]:
    """Batches ``pixels, fourier, profiles, label`` of 60 % of the digits, shuffled by the seed."""
    shuffle = torch.Generator().manual_seed(seed)
    return DataLoader(_split()[0], batch_size=64, shuffle=True, drop_last=True, generator=shuffle)


def make_test_loader() -> DataLoader[tuple[Tensor, ...]]:
    """Batches of the other 40 %, in order."""
    return DataLoader(_split()[1], batch_size=256)


@cache
def _split() -> tuple[TensorDataset, TensorDataset]:
    digits = load_digits()
    rows = np.arange(len(digits.target))
    train, test = train_test_split(rows, test_size=0.4, random_state=0, stratify=digits.target)
    views = []
    for view in _views(digits.images):
        mean, spread = view[train].mean(0), view[train].std(0)
        scaled = (view - mean) / np.where(spread > 0, spread, 1)
        views.append(torch.from_numpy(scaled.astype(np.float32)))
    columns = [*views, torch.from_numpy(digits.target)]
    return (
        TensorDataset(*(column[train] for column in columns)),
        TensorDataset(*(column[test] for column in columns)),
    )


def _views(images: np.ndarray) -> list[np.ndarray]:
    """Pixels 64; magnitudes of the 2-D Fourier transform 40; row and column means 16."""
    return [
        images.reshape(len(images), -1),
        np.abs(np.fft.rfft2(images)).reshape(len(images), -1),
        np.concatenate([images.mean(2), images.mean(1)], axis=1),
    ]
