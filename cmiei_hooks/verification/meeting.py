"""Do the modalities meet in the head, or does each call or row of it belong to one modality?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..discovery import modalities_apart
from ..fusion import Captured, Head, one_modality_a_row, tensors
from .probe import one_line
from .report import Check

__all__ = ["check_meeting"]


def check_meeting(
    model: nn.Module, inputs: Sequence[Any], head: Head, captured: Captured, calls: int
) -> list[Check]:
    """A failed check if they do not; none otherwise.

    Args:
        model: as it is called.
        inputs: of the model.
        head: whose modalities are meant.
        captured: a call of the head.
        calls: how often one forward of the model calls it.
    """
    samples = {len(x) for _, x in tensors(inputs) if x.dim()}
    if calls == 1 and captured.batch in samples:
        return []
    found = modalities_apart(model, inputs, head.first, len(head.partition.names))
    if not found:
        return []
    otherwise = "if each input holds all modalities (two views), verify a model of one view"
    text = one_line(one_modality_a_row(head.names[0], found, otherwise))
    return [Check("the modalities meet in the head", False, text)]
