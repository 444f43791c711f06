"""Run a module without a trace: buffers, attributes, randomness, gradient, caches."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["quiet"]


@contextmanager
def quiet(module: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Inside, ``module.forward`` may be called at will; afterwards everything is as it was.

    Yields a function that rewinds the random generators to where they were on entry, so that every
    run under the same ``quiet`` draws the same dropout mask as the real forward that follows.
    """
    rewind = _randomness(device)
    try:
        with torch.no_grad(), _own_caches(), _attributes_kept(module), _buffers_lent(module):
            yield rewind
    finally:
        rewind()


@contextmanager
def _own_caches() -> Iterator[None]:
    """Keep what is computed without gradient out of the caches that the real forward reads.

    Autocast (before torch 2.13) and ``parametrize.cached()`` would hand it weights from there, and
    the weights of the head would silently get no gradient.
    """
    cached, parametrized = torch.is_autocast_cache_enabled(), parametrize._cache
    torch.set_autocast_cache_enabled(False)
    parametrize._cache = {}
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        parametrize._cache = parametrized


@contextmanager
def _buffers_lent(module: nn.Module) -> Iterator[None]:
    """Clones stand in for the buffers: not even a version counter of the real ones moves."""
    originals = [(m._buffers, dict(m._buffers)) for m in module.modules()]
    clones: dict[int, Tensor] = {}  # by identity: tied buffers stay tied
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


_TORCHS_OWN = frozenset(nn.Module().__dict__)
"""Attributes that every module has: parameters, hooks, flags. They are not copied."""


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Attributes that a forward sets or fills (counters, caches, lists of losses) are put back."""
    originals = [(m.__dict__, dict(m.__dict__)) for m in module.modules()]
    try:
        for attributes, before in originals:
            for name in before.keys() - _TORCHS_OWN:
                attributes[name] = _copied(before[name])
        yield
    finally:
        for attributes, before in originals:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)


def _copied(value: Any) -> Any:
    """A copy of what a forward may write into; everything else as it is."""
    if type(value) in (list, dict, set, deque):
        return value.copy()
    return value.clone() if isinstance(value, Tensor) else value


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
