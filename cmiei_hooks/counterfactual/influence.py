"""The influence of each modality in one call of the head: run it without each, and compare.

The comparison itself is ``functional.counterfactual_influence``. ``linear.py`` computes the same
values faster for heads that begin with a Linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import counterfactual_influence
from ..fusion import Captured, Change, Head
from ..mean_plus_noise import batch_mean
from .rerun import reruns

__all__ = ["BASELINES", "Counterfactuals", "estimate"]

BASELINES: dict[str, Change] = {
    "zero": torch.zeros_like,
    "mean": lambda features: batch_mean(features).expand_as(features),
}
"""What replaces a dropped modality, by the words of ``DROP``."""


@dataclass(frozen=True)
class Counterfactuals:
    """The influence in one call of the head, and the logits it comes from; all detached."""

    influence: Tensor
    """``[B, M]``, float32 (float64 for a float64 head)."""
    logits: Tensor
    """``[B, C]``, from the complete input."""
    counterfactual_logits: Tensor
    """``[M, B, C]``; entry m is computed without modality m."""


def estimate(head: Head, captured: Captured) -> Counterfactuals:
    """The influence of each modality on each sample of one call of the head.

    Raises:
        InputError, OutputError, HeadError: the call does not hold the modalities, the head returns
            no logits, a later link cannot be run at this point, or the head fails without one of
            the modalities.
    """
    baseline = BASELINES[head.drop]
    modalities = range(len(captured.groups))
    with reruns(head, captured) as logits_with:
        logits = logits_with({})
        counterfactual = torch.stack(
            [logits_with({m: captured.dropping(m, baseline)}) for m in modalities]
        )
        influence = counterfactual_influence(logits, counterfactual, head.measure)
    return Counterfactuals(influence, logits, counterfactual)
