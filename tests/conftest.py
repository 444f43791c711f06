"""What several tests need: a small three-modality model, and a seed for each test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

WIDTHS = [4, 3, 5]


class Fused(nn.Module):
    """Three encoders, concatenation, a head; ``recorded`` is set by ``record_head_input``."""

    def __init__(self, head: nn.Module | None = None, widths: list[int] | None = None) -> None:
        super().__init__()
        self.widths = widths or WIDTHS
        self.encoders = nn.ModuleList(nn.Linear(6, width) for width in self.widths)
        self.classifier = head or nn.Linear(sum(self.widths), 7)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([encode(x) for encode in self.encoders], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def record_head_input(model: Fused) -> list[Tensor]:
    """Every tensor that the head really gets; to be called after attach."""
    inputs: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0].detach().clone())

    model.classifier.register_forward_pre_hook(hook)
    return inputs


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model() -> Fused:
    return Fused()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(16, 6)
