"""What training gets from a head: whether its output is used, and its share of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..fusion import describe, tensors

__all__ = ["gradient_share", "is_used"]


def is_used(of_head: Any, of_model: Any) -> bool | None:
    """Whether what the model returned depends on what its head returned.

    None if that is unknown: the head's output requires no gradient, as in a frozen model.
    """
    made = [t for _, t in tensors(of_head) if t.requires_grad]
    returned = [t for _, t in tensors(of_model) if t.requires_grad]
    if not made:
        return None
    if not returned:
        return False
    total = torch.stack([t.sum().float() for t in returned]).sum()
    gradients = _gradients(total, made)
    return None if gradients is None else any(g is not None for g in gradients)


def gradient_share(
    loss: Tensor, features: Sequence[Tensor], handed: Sequence[Tensor], model: nn.Module
) -> float | None:
    """The share of the backbone's gradient that comes through the head, from 0 to 1.

    ``|g| / (|g| + |G - g|)`` over the parameters in front of the head, where ``G`` is their
    gradient from the loss and ``g`` what flows of it through the head's input.

    Args:
        loss: a scalar.
        features: the head's input, as it was captured.
        handed: the copies of it that the head received.
        model: whose parameters.

    Returns:
        The share; None if it is unknown, because nothing in front of the head is trained or a
        reentrant checkpoint is in the way.

    Raises:
        InputError: the loss is not a scalar.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise InputError(
            "loss= does not return a scalar",
            got=describe(loss),
            expected="a function that computes one number to minimise from what the model returns",
            remedy="return the loss itself, reduced over the batch, before .backward()",
        )
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not any(t.requires_grad for t in features) or not any(t.requires_grad for t in handed):
        return None
    if not loss.requires_grad:
        return 0.0
    through = _gradients(loss, handed)
    total = _gradients(loss, parameters)
    if through is None or total is None:
        return None
    with_gradient = [
        (source, g)
        for source, g in zip(features, through, strict=True)
        if source.requires_grad and g is not None
    ]
    if not with_gradient:
        return 0.0
    outputs, gradients = zip(*with_gradient, strict=True)
    own = torch.autograd.grad(outputs, parameters, gradients, allow_unused=True, retain_graph=True)
    pairs = [
        (g, torch.zeros_like(g) if whole is None else whole)
        for g, whole in zip(own, total, strict=True)
        if g is not None
    ]
    if not pairs:
        return None
    here = _norm([g for g, _ in pairs])
    elsewhere = _norm([whole - g for g, whole in pairs])
    return here / (here + elsewhere) if here else 0.0


def _norm(gradients: Sequence[Tensor]) -> float:
    return float(torch.stack([g.double().norm() for g in gradients]).norm())


def _gradients(scalar: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None] | None:
    """None if autograd cannot tell: a reentrant checkpoint is in the way."""
    try:
        return torch.autograd.grad(scalar, inputs, allow_unused=True, retain_graph=True)
    except RuntimeError as error:
        if "use_reentrant" in str(error) or "heckpoint" in str(error):
            return None
        raise
