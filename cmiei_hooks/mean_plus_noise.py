"""What takes the place of a substituted modality: the batch mean plus noise, as pure functions.

``functional.substitute`` is the public one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .errors import InputError

__all__ = ["batch_mean", "batch_std", "blend", "substitute"]


def substitute(
    features: Tensor,
    rows: Tensor,
    *,
    sigma: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replace the features of the given rows by the batch mean plus noise.

    ``Sub(f) = mu + sigma * eps``: ``mu`` is the mean over the whole batch (not over the selected
    rows) and ``eps`` is standard normal. Gradient flows through ``mu``. Rows whose features are not
    finite do not enter ``mu``: one broken sample must not spread to the others.

    Args:
        features: ``[B, ...]``, one modality.
        rows: bool ``[B]``.
        sigma: standard deviation of the noise, in units of the features.
        generator: source of the noise, on the device of the features; None: the global one.

    Returns:
        A new tensor like ``features``; the other rows are equal to the bit.

    Raises:
        InputError: ``rows`` is not bool ``[B]``, the features are integers, sigma is negative.
    """
    if rows.dtype != torch.bool or rows.shape != features.shape[:1]:
        raise InputError(
            "rows must say for each sample whether it is substituted",
            got=f"{rows.dtype} {list(rows.shape)} for features {list(features.shape)}",
            expected=f"torch.bool {list(features.shape[:1])}",
            remedy="compare the selection with the index of the modality: chosen == m",
        )
    if not features.is_floating_point() or not 0 <= sigma < math.inf:
        raise InputError(
            "features cannot be substituted by their mean plus noise",
            got=f"{features.dtype}, sigma {sigma!r}",
            expected="a floating-point tensor and a finite sigma >= 0",
            remedy="pass the features that the head receives",
        )
    noise = torch.empty_like(features, memory_format=torch.contiguous_format, requires_grad=False)
    noise.normal_(generator=generator)
    return blend(features, rows, batch_mean(features), noise, sigma)


def blend(features: Tensor, rows: Tensor, prototype: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """``substitute`` with a given prototype ``[1, ...]`` in place of the batch mean, and noise.

    With rows ``[B, M]``, the features are M blocks ``[B, M, ...]``.
    """
    return torch.where(_aligned(rows, features), prototype.add(noise, alpha=sigma), features)


def batch_mean(
    features: Tensor, total: Callable[[Tensor], Tensor] | None = None, *, blocks: bool = False
) -> Tensor:
    """Mean over the rows ``[B, ...]`` that are finite, with the batch axis kept: ``[1, ...]``.

    Args:
        features: ``[B, ...]``.
        total: sums a tensor over several batches (the ranks), with gradient.
        blocks: the features are M blocks ``[B, M, ...]``, and each has its own finite rows.
    """
    rows = features.detach().unsqueeze(-1).flatten(2 if blocks else 1)
    # The largest value is finite if all are; asking each one takes ten times as long.
    finite = (rows.abs().amax(-1) if rows.shape[-1] else rows.sum(-1)).isfinite()
    finite = _aligned(finite, features)
    sums = features.where(finite, 0).sum(0, keepdim=True, dtype=_accumulator(features))
    count = finite.sum(0, keepdim=True).to(sums.dtype)
    if total is not None:
        sums, count = total(sums), total(count)
    return (sums / count.clamp_min(1)).to(features.dtype)


def _aligned(rows: Tensor, features: Tensor) -> Tensor:
    """Values of samples, or of samples and blocks, with as many axes as the features."""
    return rows.view(rows.shape + (1,) * (features.dim() - rows.dim()))


def batch_std(
    features: Tensor,
    mean: Tensor,
    total: Callable[[Tensor], Tensor] | None = None,
    *,
    blocks: bool = False,
) -> Tensor:
    """Standard deviation over the finite rows of ``[B, ...]``: ``[1, ...]``, without gradient.

    It divides by the number of rows, and is 0 for one row.

    Args:
        features: ``[B, ...]``.
        mean: ``batch_mean`` of them.
        total: sums a tensor over several batches (the ranks).
        blocks: as in ``batch_mean``.
    """
    wide = _accumulator(features)
    squares = (features.detach().to(wide) - mean.detach().to(wide)).square()
    return batch_mean(squares, total, blocks=blocks).sqrt().to(features.dtype)


def _accumulator(features: Tensor) -> torch.dtype:
    # In float16 the sum of a batch may overflow where its mean does not.
    return torch.float32 if features.dtype in (torch.float16, torch.bfloat16) else features.dtype
