"""Which tensors among the inputs of a model say something about another input: masks, positions."""

from __future__ import annotations

from torch import Tensor

__all__ = ["why_no_modality"]


def why_no_modality(x: Tensor, name: str, batch: int) -> str:
    """Why an input is not taken for a modality; empty if it is one.

    Args:
        x: the tensor, of two axes or more.
        name: of the input. Floating-point 0 and 1 are a mask only if the name says so, since an
            image may hold them, too.
        batch: the number of samples.
    """
    if x.shape[0] != batch:
        return f"a tensor of {x.shape[0]} rows, for {batch} samples"
    if not x.numel():
        return "empty"
    named = "mask" in name.lower()
    if (named or not x.is_floating_point()) and bool(((x == 0) | (x == 1)).all()):
        return "a mask of 0 and 1"
    if not x.is_floating_point() and _are_positions(x):
        return "positions"
    if not x.is_floating_point() and bool((x == x[:1]).all()):
        return "equal in all samples"
    return ""


def _are_positions(x: Tensor) -> bool:
    """Whether every row counts up by one; what is padded, in front or behind, has one value."""
    if x.is_complex() or x.shape[-1] < 2:
        return False
    steps = x.long().diff(dim=-1)
    up = (steps == 1).sum(-1)
    other = ((steps != 0) & (steps != 1)).sum(-1)
    return bool(((up > 0) & (other <= 1)).all())
