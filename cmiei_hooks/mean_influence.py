"""Means of influences: over a batch, over the ranks, and over the steps of a training.

``functional.mean_influence`` is the public one of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import InputError

__all__ = [
    "finite_sums",
    "mean_influence",
    "refuse_misfit_means",
    "refuse_one_modality",
    "running_mean",
]


def mean_influence(influence: Tensor, total: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Mean influence of each modality ``[M]`` over the finite rows of ``[B, M]``; 0 without any.

    Args:
        influence: ``[B, M]``.
        total: sums a tensor over several batches, those of all ranks for example.
    """
    sums = finite_sums(influence)
    sums = sums if total is None else total(sums)
    return sums[:-1] / sums[-1].clamp_min(1)


def running_mean(before: Tensor | None, mean: Tensor, weight: float = 0.9) -> Tensor:
    """The next value of an exponential running mean of mean influences ``[M]``.

    A mean of zeros (of a batch without finite influences) changes nothing, and counts as none.

    Args:
        before: the value before; None: there is none.
        mean: of the new batch, ``mean_influence``.
        weight: of what was before.
    """
    if before is None:
        return mean
    before = before.to(mean)
    begun = torch.where(before.any(), before.lerp(mean, 1 - weight), mean)
    return torch.where(mean.any(), begun, before)


def finite_sums(influence: Tensor) -> Tensor:
    """``[M + 1]``: the sums of the finite rows of ``[B, M]``, and the number of these rows."""
    finite = influence.isfinite().all(-1)
    # float64, because an epoch adds up many of them; Apple's mps has none.
    dtype = torch.float32 if influence.device.type == "mps" else torch.float64
    sums = influence.masked_fill(~finite[:, None], 0).sum(0, dtype=dtype)
    return torch.cat([sums, finite.sum()[None].to(dtype)])


def refuse_one_modality(influence: Tensor) -> None:
    """Raise InputError if there is nothing to compare."""
    if influence.dim() != 2 or influence.shape[1] < 2:
        raise InputError(
            "selection compares two or more modalities",
            got=f"influence of shape {list(influence.shape)}",
            expected="[B, M] with M >= 2",
            remedy="pass what counterfactual_influence returned",
        )


def refuse_misfit_means(influence: Tensor, means: Tensor | None) -> None:
    """Raise InputError if there are means, and not one for each modality."""
    if means is not None and means.shape != influence.shape[1:]:
        raise InputError(
            "mean has one influence for each modality",
            got=f"shape {list(means.shape)}",
            expected=f"{list(influence.shape[1:])}",
            remedy="pass mean_influence(influence), or leave it out",
        )
