"""Memory that is used again in every estimate: the first use of new memory costs a page fault.

At 1000 classes these faults take as long as the softmax.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

__all__ = ["Workspace"]

_MOST = 2**21
"""The numbers that are kept: 8 MB in float32."""


class Workspace(threading.local):
    """Lends one block of memory on the CPU. Other devices have an allocator that does this.

    What was lent is written over by the next call. Each thread has a block of its own.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of unknown values, of the type and on the device of another one."""
        size = math.prod(shape)
        # What is made in inference mode cannot be written into outside of it.
        keeps = like.device.type == "cpu" and not torch.is_inference_mode_enabled()
        if not keeps or size > _MOST:
            return like.new_empty(shape)
        kept = self._kept
        if kept is None or kept.dtype != like.dtype or kept.numel() < size:
            kept = self._kept = like.new_empty(size)
        return kept[:size].view(shape)
