"""Strategies as a user writes them, at module level so that worker processes find them."""

from __future__ import annotations

import torch


class EveryFirst:
    """Sets the first modality of every sample to zero."""

    every_step = True

    def choose(self, call):
        return torch.zeros(call.captured.batch, dtype=torch.int64)

    def replace(self, captured, chosen, step):
        return captured.changed({0: torch.zeros_like})


def every_first(config, noise):
    return EveryFirst()


def nothing(config, noise):
    return object()


def takes_nothing():
    return EveryFirst()
