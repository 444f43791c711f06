"""A small three-modality model, and what several tests ask of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from torch import Tensor, nn
from warm_python import WarmPython

ROOT = Path(__file__).parents[1]
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


def trace(model: nn.Module) -> dict[str, object]:
    """Everything that an attachment could leave on a module, hook order included."""
    found: dict[str, object] = {"state dict": list(model.state_dict())}
    for name, module in model.named_modules():
        for key, value in module.__dict__.items():
            content = list(value.items()) if isinstance(value, dict) else value
            found[f"{name}.{key}"] = content
    return found


def torchrun(
    python: WarmPython, script: Path, *options: str, path: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes under the real launcher.

    Args:
        path: a folder that the script may import from, besides the checkout.
    """
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    launcher += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    env = {"PYTHONPATH": f"{ROOT}:{path}", "OMP_NUM_THREADS": "1"}
    return python.run([*launcher, script, *options], env=env, timeout=240, warm_children=True)
