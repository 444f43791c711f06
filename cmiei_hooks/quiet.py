"""Run a module without a trace: buffers, attributes, randomness, gradient, autocast cache."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["in_backward", "may_be_recomputed", "quiet"]


@contextmanager
def quiet(module: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Inside, ``module.forward`` may be called at will; afterwards everything is as it was.

    Yields a function that rewinds the random generators to where they were on entry, so that every
    run under the same ``quiet`` draws the same dropout mask as the real forward that follows.
    """
    rewind = _randomness(device)
    cached = torch.is_autocast_cache_enabled()
    # Without this, weights cast under no_grad would stay in autocast's cache, and the real forward
    # would take them from there: the weights of the head would silently get no gradient.
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad(), _attributes_kept(module), _buffers_lent(module):
            yield rewind
    finally:
        torch.set_autocast_cache_enabled(cached)
        rewind()


@contextmanager
def _buffers_lent(module: nn.Module) -> Iterator[None]:
    """Clones stand in for the buffers: not even a version counter of the real ones moves."""
    originals = [(m._buffers, dict(m._buffers)) for m in module.modules()]
    clones: dict[int, torch.Tensor] = {}  # by identity: tied buffers stay tied
    try:
        for buffers, _ in originals:
            for name, buffer in buffers.items():
                if buffer is not None:
                    if id(buffer) not in clones:
                        clones[id(buffer)] = buffer.clone()
                    buffers[name] = clones[id(buffer)]
        yield
    finally:
        for buffers, before in originals:
            buffers.clear()
            buffers.update(before)


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Plain attributes that a forward sets (counters, caches, legacy weight norm) are put back."""
    originals = [(m.__dict__, dict(m.__dict__)) for m in module.modules()]
    try:
        yield
    finally:
        for attributes, before in originals:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)


def _randomness(device: torch.device) -> Callable[[], None]:
    """A function that sets every global generator that a head may draw from back to now."""
    restore: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (torch.set_rng_state, (torch.get_rng_state(),)),
        (random.setstate, (random.getstate(),)),
    ]
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        restore.append((numpy_random.set_state, (numpy_random.get_state(),)))
    if device.type not in ("cpu", "meta"):
        backend = getattr(torch, device.type)
        where = () if device.type == "mps" else (device,)  # mps has one generator and no argument
        restore.append((backend.set_rng_state, (backend.get_rng_state(*where), *where)))

    def rewind() -> None:
        for set_state, state in restore:
            set_state(*state)

    return rewind


def in_backward() -> bool:
    """Whether autograd is running a backward pass here: a module called now is being recomputed."""
    return bool(torch._C._current_graph_task_id() != -1)


def may_be_recomputed() -> bool:
    """Whether the call being made here may be under activation checkpointing.

    The reentrant kind turns gradient off, the other kind hooks into the saving of tensors.
    """
    if not torch.is_grad_enabled():
        return True
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is None or hooks(True) is not None  # None: an old torch; cannot be excluded
