"""What the examples train: two views of synthetic samples, and a model that fuses them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

SPLITS = {"audio": 8, "video": 6}
"""The widths of the two views in the input of the classifier."""


class TwoViews(nn.Module):
    """One encoder for each view, concatenation, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(12, 8), nn.ReLU())
        self.video = nn.Sequential(nn.Linear(10, 6), nn.ReLU())
        self.classifier = nn.Linear(14, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Views ``[B, 12]`` and ``[B, 10]`` to logits ``[B, 3]``."""
        return self.classifier(torch.cat([self.audio(audio), self.video(video)], dim=1))


def samples() -> TensorDataset:
    """256 samples of three classes: audio, which tells the classes apart better, video, label."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (256,), generator=generator)
    views = []
    for width, strength in ((12, 1.0), (10, 0.4)):
        centres = strength * torch.randn(3, width, generator=generator)
        views.append(centres[labels] + torch.randn(256, width, generator=generator))
    return TensorDataset(*views, labels)


def loader() -> DataLoader:
    """Batches of 32 in a fixed order: a resumed training then sees what it would have seen."""
    return DataLoader(samples(), batch_size=32)


def arguments(output: str, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The command line of every example; a parser may bring more."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from there")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    return args
