"""Does a head return probabilities where the measure takes logits?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ends_in_probabilities", "looks_like_probabilities"]

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}
_COARSE = 1e-2
"""For float16 and bfloat16."""


def looks_like_probabilities(logits: Tensor) -> Tensor:
    """Whether every row is >= 0 and sums to 1, as after softmax. Nothing is copied to the host.

    A single row may look like that by chance and does not count.

    Args:
        logits: ``[B, C]``.

    Returns:
        bool ``[]``, on the device of the logits.
    """
    if len(logits) < 2 or logits.shape[1] < 2:
        return torch.zeros((), dtype=torch.bool, device=logits.device)
    tolerance = _TOLERANCE.get(logits.dtype, _COARSE)
    rows = logits.detach().float() if tolerance == _COARSE else logits.detach()
    return (rows >= 0).all() & ((rows.sum(1) - 1).abs() <= tolerance).all()


def ends_in_probabilities(head: nn.Module, logits: Tensor) -> str:
    """``"softmax"`` or ``"sigmoid"`` if one of them computes what a head returns; else empty.

    Found in the autograd graph or, without gradient, by the last module of a Sequential. The output
    of log-softmax is logits.

    Args:
        head: the module that returned the logits.
        logits: as the head returned them.
    """
    last = head
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if isinstance(last, nn.Softmax):
        return "softmax"
    if isinstance(last, nn.Sigmoid):
        return "sigmoid"
    node = "" if logits.grad_fn is None else logits.grad_fn.name()
    return next((name for name in ("softmax", "sigmoid") if node.lower().startswith(name)), "")
