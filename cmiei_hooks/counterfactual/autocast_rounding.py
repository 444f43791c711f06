"""What autocast does to the operands of a Linear, by hand: the products stay in float32.

Autocast rounds features, weights and bias to bfloat16, adds up their products in float32, and
rounds the sum. Without the last rounding, two outputs can be compared more exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["Operand", "by_hand", "can_be_done_by_hand"]

Operand = Callable[[Tensor], Tensor]
"""Rounds an operand of a product."""


def can_be_done_by_hand(rounding: torch.dtype, features: Tensor) -> bool:
    """Whether float32 holds the products, and takes no longer than the head under autocast.

    On devices with fast products in bfloat16 it does take longer.
    """
    known = rounding == torch.bfloat16 and features.dtype in (torch.float32, torch.bfloat16)
    return known and features.device.type == "cpu"


@contextmanager
def by_hand(rounding: torch.dtype | None) -> Iterator[Operand]:
    """Inside, autocast is off, and what is yielded rounds as it does; None rounds nothing."""
    if rounding is None:
        yield lambda operand: operand
        return
    with torch.autocast("cpu", enabled=False):
        yield lambda operand: operand.to(rounding).float()
