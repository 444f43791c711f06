"""Is the batch on the first axis of what the head receives, or on another one of the same size?"""

from __future__ import annotations

from torch import Tensor

from .._torch import out_of_memory
from ..errors import InputError
from ..fusion import Captured, Head, training_branch
from .isolation import isolated
from .rerun import run_links

__all__ = ["batch_axis_error", "find_batch_axis", "possible_batch_axes"]

_TOLERANCE = 1e-4
"""Relative to the largest logit: another order of the rows may round in another way."""


def possible_batch_axes(captured: Captured) -> list[int]:
    """The axes behind the first that have the size of the batch in every tensor."""
    axes = min(tensor.dim() for tensor in captured.tensors.values())
    if axes < 3 or captured.batch < 2:
        return []
    tensors = captured.tensors.values()
    return [a for a in range(1, axes) if all(t.shape[a] == captured.batch for t in tensors)]


def find_batch_axis(head: Head, captured: Captured) -> int | None:
    """The axis on which the samples are: exchange them, and see whether the logits follow.

    A head treats its samples alike: the logits of exchanged samples are the exchanged logits. Where
    the first axis does not have this property and another one does, the other one is the batch.

    Args:
        head: that is being called.
        captured: the call.

    Returns:
        None if it cannot be told: the head mixes its samples, or is random.
    """
    try:
        axes = (0, *possible_batch_axes(captured))
        found = [axis for axis in axes if _follow(head, captured, axis)]
    except Exception as error:  # it may refuse exchanged samples, or lack what training gives it
        if out_of_memory(error):
            raise
        return None
    return found[0] if 0 in found or len(found) == 1 else None


def batch_axis_error(captured: Captured, axis: int) -> InputError:
    """The refusal of a batch on another axis."""
    shapes = ", ".join(str(list(tensor.shape)) for tensor in captured.tensors.values())
    return InputError(
        "the batch is not on the first axis of the head's input",
        got=f"shape {shapes}: if entries of axis {axis} are exchanged, so are the logits",
        expected="the batch on axis 0",
        remedy="put the batch first (batch_first=True, or transpose in front of the head), or "
        "name a head behind the transpose",
    )


def _follow(head: Head, captured: Captured, axis: int) -> bool:
    """Whether exchanging the samples on this axis exchanges the rows of the logits, and no more."""
    # Without dropout, whose mask does not move with the samples.
    with isolated(head.whole, captured.device) as rewind, training_branch(head.whole):

        def logits(shift: int) -> Tensor:
            rewind()
            copies = {path: x.roll(shift, axis) for path, x in captured.copies().items()}
            return run_links(head, captured.call_with(copies), captured).clone()

        plain, shifted = logits(0), logits(1)
    scale = _TOLERANCE * plain.abs().max()
    same = (shifted - plain.roll(1, 0)).abs().max() <= scale
    changed = (shifted - plain).abs().max() > scale
    return bool(same & changed)
