"""A whole model and its audit, against plain loops over the same batches."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cmiei_hooks import Config, attach
from cmiei_hooks.auditing import AuditOptions
from cmiei_hooks.auditing.collect import collect, collect_again
from cmiei_hooks.auditing.collected import Collected
from cmiei_hooks.fusion import locate

from .head import Functions, Shape, three_steps, training_step

__all__ = ["backbone_and_audit", "backbone_and_hook", "head_and_audit"]

MODALITIES = 3
_WIDTH, _LAYERS, _HEADS, _TOKENS, _PATCH = 384, 12, 6, 64, 768
"""A small vision transformer for images of 128 x 128 in patches of 16 x 16."""


class _Fused(nn.Module):
    """One transformer shared by all modalities, concatenation, BatchNorm, a classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(_PATCH, _WIDTH)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 4 * _WIDTH, batch_first=True, norm_first=True, activation="gelu"
        )
        self.blocks = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.bottleneck = nn.BatchNorm1d(MODALITIES * _WIDTH)
        self.classifier = nn.Linear(MODALITIES * _WIDTH, classes, bias=False)

    def forward(self, *patches: Tensor) -> Tensor:
        features = [self.blocks(self.embed(x)).mean(1) for x in patches]
        logits: Tensor = self.classifier(self.bottleneck(torch.cat(features, dim=1)))
        return logits


def backbone_and_audit(batch: int, classes: int, device: torch.device) -> Functions:
    """A transformer over three batches, without and with the audit."""
    torch.manual_seed(0)
    model = _Fused(classes).to(device).eval()
    images = tuple(torch.randn(batch, _TOKENS, _PATCH, device=device) for _ in range(MODALITIES))
    batches = [images] * 3
    head = locate(model, Config(head="classifier", splits=(_WIDTH,) * MODALITIES))

    def plain() -> None:
        with torch.no_grad():
            for given in batches:
                model(*given)

    return {
        "plain loop": plain,
        "audit": lambda: _checked(collect(model, batches, head, AuditOptions(null_samples=0))),
        "audit, first 256 samples": lambda: _checked(collect(model, batches, head, AuditOptions())),
    }


def backbone_and_hook(batch: int, classes: int, device: torch.device) -> Functions:
    """Three training steps of the transformer, of which one is an estimation step (K = 3)."""
    torch.manual_seed(0)
    plain = _Fused(classes).to(device)
    attached = copy.deepcopy(plain)
    splits = (_WIDTH,) * MODALITIES
    attach(attached, head="classifier", splits=splits, k=3, warmup_epochs=0, log=False)
    images = tuple(torch.randn(batch, _TOKENS, _PATCH, device=device) for _ in range(MODALITIES))
    return three_steps(*(training_step(model, images, classes) for model in (plain, attached)))


def head_and_audit(shape: Shape, device: torch.device) -> Functions:
    """The matrix products of the audit's re-runs, and the audit over saved features."""
    model = shape.model(device).eval()
    features = shape.features(torch.device("cpu"))
    head = locate(model, shape.settings)
    options = AuditOptions(null_samples=0)
    found = _checked(collect(model, [features], head, options, keep_calls=True))
    here = features.to(device)
    modalities = shape.modalities
    # All coalitions; again the complete input, beside two other baselines. (The draws of the null
    # are left out here.)
    products = 2**modalities + 1 + 2 * modalities

    def multiply() -> None:
        with torch.no_grad():
            for _ in range(products):
                model(here)

    return {
        f"{products} head forwards": multiply,
        "audit": lambda: _checked(collect_again(model, found.calls, head, options)),
    }


def _checked(found: Collected) -> Collected:
    if found.error is not None:
        raise found.error
    return found
