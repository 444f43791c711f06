"""Is the batch on the first axis of what the head receives, or on another one of the same size?"""

from __future__ import annotations

from torch import Tensor

from ..counterfactual import isolated, run_links
from ..errors import CMIEIError
from ..fusion import Captured, Head, training_branch
from .report import Check

__all__ = ["check_batch_axis"]

_NAME = "batch on the first axis"

_TOLERANCE = 1e-4
"""Relative to the largest logit: another order of the rows may round in another way."""


def check_batch_axis(head: Head, captured: Captured) -> list[Check]:
    """Exchange the samples on each axis that may be the batch, and see whether the logits follow.

    A head treats its samples alike: the logits of exchanged samples are the exchanged logits. Where
    the first axis does not have this property and another one does, the other one is the batch.

    Returns:
        One check; none if no other axis has the size of the batch, or if it cannot be told (the
        head mixes its samples, or is random).
    """
    axes = min(tensor.dim() for tensor in captured.tensors.values())
    others = [
        axis
        for axis in range(1, axes)
        if all(tensor.shape[axis] == captured.batch for tensor in captured.tensors.values())
    ]
    if axes < 3 or not others or captured.batch < 2:
        return []
    try:
        found = [axis for axis in (0, *others) if _follow(head, captured, axis)]
    except (CMIEIError, RuntimeError):  # the head may refuse what its training branch does not give
        return []
    if 0 in found:
        return [Check(_NAME, True, "yes")]
    if len(found) != 1:
        return []
    text = (
        f"the logits follow axis {found[0]} of the head's input: the batch is there, not on axis 0"
        "; name a head whose input has the batch first"
    )
    return [Check(_NAME, False, text)]


def _follow(head: Head, captured: Captured, axis: int) -> bool:
    """Whether exchanging the samples on this axis exchanges the rows of the logits, and no more."""
    with isolated(head.whole, captured.device) as rewind, training_branch(head.whole):

        def logits(shift: int) -> Tensor:
            rewind()
            copies = {path: x.roll(shift, axis) for path, x in captured.copies().items()}
            return run_links(head, captured.call_with(copies), captured.batch).clone()

        plain, shifted = logits(0), logits(1)
    scale = _TOLERANCE * plain.abs().max()
    same = (shifted - plain.roll(1, 0)).abs().max() <= scale
    changed = (shifted - plain).abs().max() > scale
    return bool(same & changed)
