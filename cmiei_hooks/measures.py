"""The measures: how far a prediction moves when a modality is dropped.

``B`` is the batch, ``C`` the classes, ``M`` the modalities. A measure takes the complete logits
``[B, C]`` and those without each modality ``[M, B, C]``, and returns ``[M, B]``.
``functional.counterfactual_influence`` describes and checks them. To add one, write its function,
and put it into ``MEASURES`` and into ``UNITS`` of ``units.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["FLOOR", "MASKED", "MEASURES", "OF_CLASSES", "floor_of", "least_logits"]

FLOOR = 16 * torch.finfo(torch.float32).eps
"""About 1.9e-6. Influences up to here are rounding in float32: they make no modality dominant."""

MASKED = -1e30
"""Used for a logit of -inf: its probability is exactly 0, and it can be subtracted."""


def least_logits(measure: str) -> int:
    """How many logits a measure needs: of one logit, softmax is always 1."""
    return 2 if measure in OF_CLASSES else 1


def _kl(z: Tensor, without: Tensor) -> Tensor:
    log_p = z.log_softmax(-1)
    return (log_p.exp() * (log_p - without.log_softmax(-1))).sum(-1)


def _js(z: Tensor, without: Tensor) -> Tensor:
    log_p, log_q = z.log_softmax(-1), without.log_softmax(-1)
    difference = log_q - log_p
    # Of the middle m = (p + q) / 2: log m - log p = log((1 + q/p) / 2), exactly 0 where q is p.
    near = torch.log1p(torch.expm1(-difference.abs()) / 2)
    to_p = near + difference.clamp_min(0)
    to_q = near + (-difference).clamp_min(0)
    return -(log_p.exp() * to_p + log_q.exp() * to_q).sum(-1) / 2


def _ted(z: Tensor, without: Tensor) -> Tensor:
    target = z.argmax(-1, keepdim=True)
    return (_margin(z, target) - _margin(without, target.expand(*without.shape[:-1], 1))).relu()


def _margin(z: Tensor, target: Tensor) -> Tensor:
    others = z.scatter(-1, target, -math.inf).amax(-1)
    return z.gather(-1, target)[..., 0] - others


def _bernoulli(z: Tensor, without: Tensor) -> Tensor:
    p = z.sigmoid()
    one = p * (logsigmoid(z) - logsigmoid(without))
    zero = (1 - p) * (logsigmoid(-z) - logsigmoid(-without))
    return (one + zero).sum(-1)


def _squared(z: Tensor, without: Tensor) -> Tensor:
    return (z - without).square().sum(-1)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": _kl,
    "js": _js,
    "ted": _ted,
    "bernoulli": _bernoulli,
    "squared": _squared,
}
"""``[B, C]`` and ``[M, B, C]`` to ``[M, B]``."""

OF_CLASSES = ("kl", "js", "ted")


def floor_of(measure: str) -> float:
    """The largest influence that is rounding: ``FLOOR`` for measures without a unit of their own.

    ``squared`` has the squared units of the output, which are unknown: there it is 0.
    """
    return 0.0 if measure == "squared" else FLOOR
