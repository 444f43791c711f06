"""Run a model in eval mode or in its training branch, and put every flag back exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .._torch import dropouts, normalisations

__all__ = ["eval_mode", "training_branch", "training_mode"]


_RANDOM_OR_MOVING = re.compile(r"norm|drop|stochastic", re.IGNORECASE)
"""Class names of other people's normalisations, dropouts and stochastic depths."""


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode."""
    with _flags_restored(model):
        model.eval()
        yield


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in training mode."""
    with _flags_restored(model):
        model.train()
        yield


@contextmanager
def training_branch(model: nn.Module) -> Iterator[None]:
    """Inside, the model takes the branch ``if self.training``, but nothing moves or is random.

    Many re-identification models call their classifier in that branch only. Every module of
    ``torch.nn`` (normalisation, dropout, attention, recurrent layers) is in eval mode, and so is
    every module without children whose class is named after normalisation, dropout or stochastic
    depth.
    """
    with _flags_restored(model):
        model.train()
        for module in model.modules():
            if _is_still(module):
                module.training = False
        yield


def _is_still(module: nn.Module) -> bool:
    kind = type(module)
    # Subclasses too, whatever they are called.
    if isinstance(module, (*normalisations(), *dropouts(), nn.GroupNorm, nn.LayerNorm)):
        return True
    childless = next(module.children(), None) is None
    named = childless and _RANDOM_OR_MOVING.search(kind.__name__) is not None
    return named or (kind.__module__.startswith("torch.nn.") and not _holds_others(module))


def _holds_others(module: nn.Module) -> bool:
    """Whether it contains modules that are not torch's, as containers and wrappers (DDP) do."""
    return any(not type(inner).__module__.startswith("torch.nn.") for inner in module.modules())


@contextmanager
def _flags_restored(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        model.train(training[0][1])  # its own train() may have more to undo than the flags
        for module, flag in training:
            module.training = flag
