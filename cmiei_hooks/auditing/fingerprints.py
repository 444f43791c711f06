"""A number for what a model gets of each sample: two audits of the same data have the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..fusion import tensors

__all__ = ["fingerprints"]

_VALUES = 64
"""About so many values of each tensor are looked at; all of them would take as long as a layer."""
_PRIME, _BITS = 2**31 - 1, 52


def fingerprints(batch: Any) -> dict[int, Tensor]:
    """The fingerprint of each sample in a batch.

    It depends on the bytes of about 64 values of each tensor, evenly spaced, and on nothing else:
    neither on the model nor on the device.

    Args:
        batch: tensors in any containers. Those without samples along their first axis are left out.

    Returns:
        int64 ``[B]`` below ``2 ** 52``, by the length B of the first axis.
    """
    found: dict[int, Tensor] = {}
    for _, x in tensors(batch):
        if not x.dim() or not x.numel() or x.layout is not torch.strided or x.is_meta:
            continue
        columns = x.detach().reshape(len(x), -1)
        few = columns[:, :: max(1, columns.shape[1] // _VALUES)].contiguous()
        content = few.view(torch.uint8).long()
        mark = (content * _weights(content.shape[1], x.device)).sum(1)
        before = found.get(len(x), 0)
        found[len(x)] = (before * 1009 + mark) % 2**_BITS  # never beyond 63 bits
    return {length: mark.cpu() for length, mark in found.items()}


@cache
def _weights(count: int, device: torch.device) -> Tensor:
    return torch.tensor([pow(48271, k, _PRIME) for k in range(1, count + 1)], device=device)
