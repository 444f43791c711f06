"""Run a module without a trace: buffers, attributes, randomness, gradient, caches."""

from __future__ import annotations

import copy
import random
import sys
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["copied", "in_autocast", "quiet", "unseen"]


Lend = Callable[[dict[int, Any]], None]
"""Puts fresh copies in the place of what a forward may change; the memo keeps ties."""


@contextmanager
def quiet(module: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Inside, ``module.forward`` may be called at will; afterwards everything is as it was.

    Yields a function that puts buffers, attributes and random generators back to where they were on
    entry, so that every run begins as the real forward that follows: with the same dropout mask,
    and with nothing that the run before has moved.
    """
    rewind = _randomness(device)
    try:
        with (
            torch.no_grad(),
            unseen(),
            _own_caches(),
            _attributes_kept(module) as lend_attributes,
            _buffers_lent(module) as lend_buffers,
        ):

            def begin() -> None:
                memo: dict[int, Any] = {}  # by identity: what is tied stays tied
                rewind()
                lend_attributes(memo)
                lend_buffers(memo)

            begin()
            yield begin
    finally:
        rewind()


@contextmanager
def unseen() -> Iterator[None]:
    """Inside is no part of what checkpointing records, saves and computes again."""
    with (
        _disable_current_modes(),
        torch.autograd.graph.saved_tensors_hooks(_unchanged, _unchanged),
    ):
        yield


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


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
def _buffers_lent(module: nn.Module) -> Iterator[Lend]:
    """Clones stand in for the buffers: not even a version counter of the real ones moves."""
    originals = [(m._buffers, dict(m._buffers)) for m in _modules(module)]

    def lend(memo: dict[int, Any]) -> None:
        for buffers, before in originals:
            buffers.clear()
            buffers.update({name: copied(buffer, memo) for name, buffer in before.items()})

    try:
        yield lend
    finally:
        for buffers, before in originals:
            buffers.clear()
            buffers.update(before)


_TORCHS_OWN = frozenset(nn.Module().__dict__)
"""Attributes that every module has: parameters, hooks, flags. They are not copied."""


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[Lend]:
    """Attributes that a forward sets or fills (counters, caches, lists of losses) are put back.

    Parameters and submodules that a first forward makes are taken away again; those that exist are
    left alone, since FSDP exchanges them.
    """
    modules = _modules(module)
    own = [(m.__dict__, dict(m.__dict__)) for m in modules]
    made = [(d, set(d)) for m in modules for d in (m.__dict__, m._parameters, m._modules)]

    def take_away() -> None:
        for entries, known in made:
            for name in entries.keys() - known:
                del entries[name]

    def lend(memo: dict[int, Any]) -> None:
        take_away()
        for attributes, before in own:
            for name in before.keys() - _TORCHS_OWN:
                attributes[name] = copied(before[name], memo)

    try:
        yield lend
    finally:
        take_away()
        for attributes, before in own:
            attributes.update(before)


def _modules(module: nn.Module) -> list[nn.Module]:
    # The state of scripted modules is not Python's; they are refused in heads.
    return [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of what a forward may write into, containers with their content; else the value."""
    if id(value) in memo:
        return memo[id(value)]
    new = value
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        new = value.detach().clone()
        if value.is_leaf:
            new.requires_grad_(value.requires_grad)
    elif type(value) is tuple:
        new = tuple(copied(item, memo) for item in value)
    elif type(value) in (list, deque):
        new = memo[id(value)] = value.copy()  # before its content, which may lead back to it
        for index, item in enumerate(value):
            new[index] = copied(item, memo)
    elif isinstance(value, (dict, UserDict)):
        new = memo[id(value)] = copy.copy(value)
        for key, item in value.items():
            new[key] = copied(item, memo)
    elif isinstance(value, set) or type(value).__module__ == "numpy":
        new = value.copy()
    memo[id(value)] = new
    return new


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


def in_autocast(device: str) -> bool:
    """Whether autocast is on for this type of device."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()
    except RuntimeError:  # a type of device without autocast
        return False
