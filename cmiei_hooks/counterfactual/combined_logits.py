"""Where in what a model returns are the combined logits of its branches?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._torch import in_autocast
from ..errors import HeadError
from ..fusion import Path, describe, tensors
from .chain_check import tolerance

__all__ = ["Found", "combined_error", "find_combined", "still_there"]


@dataclass(frozen=True)
class Found:
    """The places of the combined logits in what a module returned."""

    paths: tuple[Path, ...]
    """Empty if they are not there."""
    sure: bool
    """Whether the values decide: not if all logits are 0, or none is finite."""
    nearest: str
    """What was compared, in words."""


def find_combined(returned: Any, combined: Tensor) -> Found:
    """Every tensor that equals the combined logits up to rounding.

    Args:
        returned: by the model.
        combined: the logits that combining those of the branches gives.
    """
    paths: list[Path] = []
    seen: list[str] = []
    nearest = math.inf, ""
    largest = _largest(combined)
    coarse = in_autocast(combined.device.type)
    for path, tensor in tensors(returned):
        seen.append(describe(tensor))
        alike = tensor.is_floating_point() and tensor.device == combined.device
        if not alike or tensor.shape != combined.shape:
            continue
        both = tensor.isfinite() & combined.isfinite()
        same = torch.equal(tensor.isfinite(), combined.isfinite())
        difference = (tensor - combined).where(both, 0).abs().amax().item() if len(tensor) else 0.0
        nearest = min(
            nearest,
            (difference, f"largest difference {difference:.3g} of values up to {largest:.3g}"),
        )
        if same and difference <= tolerance(tensor, combined, coarse=coarse) * largest:
            paths.append(path)
    listed = ", ".join(seen) or "no tensor"
    text = nearest[1] or f"it returns {listed}, and the branches give {describe(combined)}"
    return Found(tuple(paths), largest > 0, text)


def _largest(tensor: Tensor) -> float:
    return tensor.where(tensor.isfinite(), 0).abs().amax().item() if tensor.numel() else 0.0


def still_there(returned: Any, path: Path, like: Tensor) -> bool:
    """Whether a later return value has such a tensor at this path, without a look at its values."""
    found = dict(tensors(returned)).get(path)
    return found is not None and found.shape == like.shape and found.is_floating_point()


def combined_error(name: str, found: Found, others: Mapping[str, bool]) -> HeadError:
    """The refusal of branches whose combination is not what the model returns.

    Args:
        name: of the head.
        found: the comparison.
        others: for each word of ``combine=`` whether it gives what the model returns.
    """
    fits = next((word for word, fitting in others.items() if fitting), None)
    remedy = (
        f"pass combine={fits!r}, which gives them"
        if fits
        else "pass as combine= a function of the list of the branches' logits that does what the "
        "model does; if that uses more than these logits (a gate over features), take the whole "
        "model as the head, head='' with modalities=; if the model returns a loss alone, let it "
        "return its logits, too"
    )
    return HeadError(
        f"{name} does not give the logits that the model returns",
        got=found.nearest,
        expected="the same logits: the model returns what combine= makes of its branches",
        remedy=remedy,
    )
