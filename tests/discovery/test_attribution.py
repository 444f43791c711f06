"""What counts as a change."""

from __future__ import annotations

import torch
from fusion_models import SPLITS, C, ReID, best, inputs, with_head
from torch import nn

from cmiei_hooks import discover


def test_rounding_that_differs_from_run_to_run_is_no_change():
    """As atomic additions on a GPU do: the last digits of everything move."""

    class Rounding(nn.Module):
        generator = torch.Generator()

        def forward(self, x):
            return x * (1 + 1e-6 * torch.rand(x.shape, generator=self.generator))

    report = discover(with_head(nn.Sequential(Rounding(), nn.Linear(12, C))), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    model = ReID()
    model.encoders = nn.ModuleDict(
        {m: nn.Sequential(e, Rounding()) for m, e in model.encoders.items()}
    )
    report = discover(model, *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.notes
