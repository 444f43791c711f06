"""Take the active attachments of a model out of the way for a while, without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .hook import PreHook

__all__ = ["paused"]


@contextmanager
def paused(model: nn.Module) -> Iterator[None]:
    """Inside, active hooks of this package on the model do nothing and count nothing."""
    hooks = [h for m in model.modules() for h in m._forward_pre_hooks.values()]
    pausing = [hook for hook in hooks if isinstance(hook, PreHook) and hook.active]
    for hook in pausing:
        hook.paused = True
    try:
        yield
    finally:
        for hook in pausing:
            hook.paused = False
