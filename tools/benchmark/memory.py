"""The peak memory of an estimate, measured in a process of its own."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from cmiei_hooks.counterfactual import estimate, influence_of_linear

from .head import Shape, captured_head

__all__ = ["peak_memory"]

_STATUS = Path("/proc/self/status")


def peak_memory(shape: Shape, general: bool, device: torch.device) -> float | None:
    """Extra memory of one estimate, in units of the logits ``[B, C]``; None where it is unknown.

    Args:
        shape: the head.
        general: run the head again for every modality, as for heads of any kind.
        device: for cuda the allocated memory counts, for cpu the resident memory (Linux only).
    """
    if device.type != "cuda" and not _STATUS.exists():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peak = pool.submit(_peak, shape, general, str(device)).result()
    return peak / (4 * shape.batch * shape.classes)


def _peak(shape: Shape, general: bool, device: str) -> int:
    function = estimate if general else influence_of_linear
    where = torch.device(device)
    # Whatever the first call loads does not count.
    function(*captured_head(Shape(2, 4, 10, shape.modalities, shape.hidden), where))
    head, captured = captured_head(shape, where)
    before = _held(where)
    result = function(head, captured)
    if result is None:
        raise RuntimeError(f"no such estimate of {shape}")
    return _held(where) - before


def _held(device: torch.device) -> int:
    """The peak so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    held = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    return int(held[1]) * 1024 if held else 0
