"""The parts of an attached step, each by itself. The whole costs more: it also cools the caches."""

from __future__ import annotations

import torch
from torch import Tensor

from cmiei_hooks import Config
from cmiei_hooks.counterfactual import influence_of_linear
from cmiei_hooks.training import HeadCall, Noise, Published
from cmiei_hooks.training.presence import Presence
from cmiei_hooks.training.statistics import Statistics

from .head import Functions, Shape, captured_head

__all__ = ["parts"]

_STEPS = 50
"""After so many steps the statistics are added up."""


def parts(shape: Shape, device: torch.device) -> Functions:
    """A forward, and what an estimation step does one after the other."""
    model, features = shape.model(device), shape.features(device)
    head, captured = captured_head(shape, device)
    influence = _known(influence_of_linear(head, captured))
    config: Config = shape.settings
    strategy, presence = Published(config, Noise(0, "classifier")), Presence(head.partition)
    chosen = strategy.choose(HeadCall(0, True, captured, influence, head))
    if chosen is None:
        raise RuntimeError("nothing is chosen")

    def forward() -> None:
        with torch.no_grad():
            model(features)

    def statistics() -> None:
        added = Statistics(head.partition.names)
        for _ in range(_STEPS):
            added.add(influence, chosen, True)

    return {
        "one head forward": forward,
        "reading the input": lambda: presence.read((features,), {}),
        "estimate": lambda: influence_of_linear(head, captured),
        "selection": lambda: strategy.choose(HeadCall(0, True, captured, influence, head)),
        "substitution": lambda: captured.call_with(strategy.replace(captured, chosen, 0)),
        f"statistics of {_STEPS} steps": statistics,
    }


def _known(influence: Tensor | None) -> Tensor:
    if influence is None:
        raise RuntimeError("the head is not one of those that begin with a Linear")
    return influence
