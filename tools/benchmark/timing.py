"""Time several functions in turns, so that noise of the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Timing", "in_turns"]


@dataclass(frozen=True)
class Timing:
    """The time of one function in each round, in seconds."""

    seconds: tuple[float, ...]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The lower one, the median and the upper one."""
        low, median, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, median, high

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return self.quartiles[1]

    def times(self, other: Timing) -> float:
        """The ratio of the medians."""
        return self.median / other.median

    def minus(self, other: Timing) -> Timing:
        """What this takes longer, round by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Timing(tuple(one - another for one, another in pairs))


def in_turns(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, Timing]:
    """Run every function once a round; the first round warms up and is not counted.

    Args:
        functions: what to time, by name.
        rounds: the number of rounds that count, at least 2.
        device: the device to wait for before the clock is read.
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
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
