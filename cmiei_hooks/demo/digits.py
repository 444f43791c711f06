"""A plain multimodal problem: real digits in three views.

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

from .views_model import ViewsModel

VIEWS = ("pixels", "fourier", "profiles")
CLASSES = 10


def make_model() -> nn.Module:
    """The untrained model."""
    return ViewsModel([view.shape[1] for view in _views(load_digits().images)], CLASSES)


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
