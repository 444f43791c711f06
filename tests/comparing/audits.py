"""Audits of small models over the same samples, for the tests of comparisons."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from helpers import WIDTHS, Fused

from cmiei_hooks import AuditReport, audit
from cmiei_hooks.auditing.checkpoint_loading import Loaded

WHERE: dict[str, Any] = {"head": "classifier", "splits": WIDTHS, "names": ["r", "n", "t"]}


def model(seed: int) -> Fused:
    """Fitted to nothing, but with influences that differ from seed to seed."""
    torch.manual_seed(seed)
    return Fused()


def batches(n: int = 40, classes: int = 7, *, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
    """In batches of 16; the labels are half of what the model of seed 0 predicts."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=drawn)
    label = model(0)(x).argmax(1) % classes
    other = torch.randint(classes, (n,), generator=drawn)
    label[::2] = other[::2]
    return list(zip(x.split(16), label.split(16), strict=True))


def audited(seed: int, data: Any = None, **arguments: Any) -> AuditReport:
    """The audit of a model, as if its weights were from ``runs/<seed>.pth``."""
    report = audit(model(seed), batches() if data is None else data, **(WHERE | arguments))
    return dataclasses.replace(report, checkpoint=Loaded(f"runs/{seed}.pth", 1, (), (), (), ""))
