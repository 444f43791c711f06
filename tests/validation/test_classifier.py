"""The metrics of a classifier, against features changed by hand."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch.nn.functional import kl_div, log_softmax

import cmiei_hooks
from cmiei_hooks.fusion import locate
from cmiei_hooks.validation.classifier import evaluate

NAMES = ["r", "n", "t"]


def test_every_metric_is_that_of_features_set_to_zero_by_hand():
    model, x, y = Fused(), torch.randn(40, 6) * 3, torch.randint(7, (40,))
    batches = [(x[:25], y[:25]), (x[25:], y[25:])]
    where = cmiei_hooks.Config(head="classifier", splits=WIDTHS, names=NAMES)
    found = evaluate(model, locate(model, where), batches)
    assert not model.training
    assert not model.classifier._forward_pre_hooks
    with torch.no_grad():
        features = model.features(x)

        def logits(*missing: str) -> torch.Tensor:
            blocks = [
                torch.zeros_like(b) if n in missing else b
                for n, b in zip(NAMES, features.split(WIDTHS, 1), strict=True)
            ]
            return model.classifier(torch.cat(blocks, 1))

        def accuracy(*missing: str) -> float:
            return (logits(*missing).argmax(1) == y).double().mean().item()

        assert found["accuracy"] == pytest.approx(accuracy())
        for name in NAMES:
            others = [n for n in NAMES if n != name]
            assert found[f"accuracy without {name}"] == pytest.approx(accuracy(name))
            assert found[f"accuracy alone {name}"] == pytest.approx(accuracy(*others))
            z, left = log_softmax(logits(), 1), log_softmax(logits(name), 1)
            influence = kl_div(left, z, log_target=True, reduction="none").sum(1).mean()
            assert found[f"CI {name}"] == pytest.approx(influence.item(), rel=1e-4)
        worst = min(found[f"accuracy without {n}"] for n in NAMES)
        assert found["worst accuracy missing"] == worst
        assert sum(found[f"Hist {n}"] for n in NAMES) == pytest.approx(1)
