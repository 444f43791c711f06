"""What several tests need: a small three-modality model, and a seed for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

WIDTHS = [4, 3, 5]


# The models are tiny: threads would only wait for each other.
torch.set_num_threads(1)


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
def _fresh() -> Iterator[None]:
    """One seed for every test, and no compiled code of another test."""
    torch.manual_seed(0)
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture
def model() -> Fused:
    return Fused()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(16, 6)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell: one cell of the matrix of bit identity")
    config.addinivalue_line("markers", "negative_control: shows that a guard is needed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the promise of silence was shown in this run."""
    passed = terminalreporter.stats.get("passed", [])
    cells = sum("cell" in report.keywords for report in passed)
    controls = sum("negative_control" in report.keywords for report in passed)
    terminalreporter.write_line(f"bit identity: {cells} cells; negative controls: {controls}")
