"""Time several functions against each other: in turns, so that a noisy machine disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Timing", "in_turns"]


@dataclass(frozen=True)
class Timing:
    """Of one function, in seconds."""

    median: float
    low: float
    high: float
    """The quartiles."""

    def times(self, other: Timing) -> float:
        """How many times the other's median this one is."""
        return self.median / other.median


def in_turns(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, Timing]:
    """Run every function once in each round, after one round that does not count.

    Args:
        functions: by name.
        rounds: how many count, two or more.
        device: is waited for before the clock is read.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            _wait(device)
            start = time.perf_counter()
            function()
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: _timing(values) for name, values in seconds.items()}


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
