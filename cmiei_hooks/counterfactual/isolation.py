"""Run a module without a trace: buffers, attributes, randomness, gradient, caches."""

from __future__ import annotations

import copy
import random
import sys
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._torch import own_caches, registry, without_dispatch_modes

__all__ = ["isolated", "not_recorded", "private_copy", "rewinding"]


Lend = Callable[[dict[int, Any]], None]
"""Replaces what a forward may change by fresh copies. The memo maps the identity of an object to
its copy, so that one object has one copy."""


@contextmanager
def isolated(module: nn.Module, device: torch.device) -> Iterator[Callable[[], None]]:
    """Inside, ``module.forward`` may be called at will; afterwards everything is as it was.

    Yields a function that puts buffers, attributes and random generators back to where they were on
    entry. Called before every run, it lets each begin as the real forward that follows: with the
    same dropout mask, and with nothing that an earlier run has moved.
    """
    rewind = _randomness(device)
    try:
        with (
            torch.no_grad(),
            not_recorded(),
            own_caches(module),
            _attributes_kept(module) as lend_attributes,
            _buffers_lent(module) as lend_buffers,
        ):

            def begin() -> None:
                memo: dict[int, Any] = {}
                rewind()
                lend_attributes(memo)
                lend_buffers(memo)

            begin()
            yield begin
    finally:
        rewind()


@contextmanager
def not_recorded() -> Iterator[None]:
    """Inside, activation checkpointing saves nothing, and computes nothing of it again."""
    with (
        without_dispatch_modes(),
        torch.autograd.graph.saved_tensors_hooks(_unchanged, _unchanged),
    ):
        yield


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def _buffers_lent(module: nn.Module) -> Iterator[Lend]:
    """Clones replace the buffers: not even a version counter of the real ones moves."""
    originals = [(own, dict(own)) for own in (registry(m, "_buffers") for m in _modules(module))]

    def lend(memo: dict[int, Any]) -> None:
        for own, before in originals:
            own.clear()
            own.update({name: private_copy(buffer, memo) for name, buffer in before.items()})

    try:
        yield lend
    finally:
        for own, before in originals:
            own.clear()
            own.update(before)


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has: parameters, hooks, flags. They are left alone."""


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[Lend]:
    """Attributes that a forward sets or fills (counters, caches, lists of losses) are put back.

    Parameters and submodules that a first forward creates are removed again. Those that exist are
    left alone, since FSDP exchanges them.
    """
    modules = _modules(module)
    own = [(m.__dict__, dict(m.__dict__)) for m in modules]
    created = [
        (d, set(d))
        for m in modules
        for d in (m.__dict__, registry(m, "_parameters"), registry(m, "_modules"))
    ]

    def remove_created() -> None:
        for entries, known in created:
            for name in entries.keys() - known:
                del entries[name]

    def lend(memo: dict[int, Any]) -> None:
        remove_created()
        for attributes, before in own:
            for name in before.keys() - _OF_EVERY_MODULE:
                attributes[name] = private_copy(before[name], memo)

    try:
        yield lend
    finally:
        remove_created()
        for attributes, before in own:
            attributes.update(before)


def _modules(module: nn.Module) -> list[nn.Module]:
    # The state of scripted modules is not Python's; they are refused in heads.
    return [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]


def private_copy(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of what a forward may write into, containers with their content.

    Whatever cannot be copied, or is of another kind, is returned as it is.
    """
    known = len(memo)
    try:
        return _copy(value, memo)
    except Exception:  # a copy method may raise anything; too deep a nesting, RecursionError
        while len(memo) > known:
            memo.popitem()  # a copy that was not finished, or is part of one
        return value


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    new = value
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        new = value.detach().clone()
        if value.is_leaf:
            new.requires_grad_(value.requires_grad)
    elif type(value) is tuple or hasattr(value, "_make"):  # a named tuple has it
        items = (_copy(item, memo) for item in value)
        new = value._make(items) if hasattr(value, "_make") else tuple(items)
    elif type(value) in (list, deque):
        new = memo[id(value)] = value.copy()  # before its content, which may lead back to it
        for index, item in enumerate(value):
            new[index] = _copy(item, memo)
    elif isinstance(value, (dict, UserDict)):
        new = memo[id(value)] = copy.copy(value)
        for key, item in value.items():
            new[key] = _copy(item, memo)
    elif isinstance(value, SimpleNamespace):
        new = memo[id(value)] = copy.copy(value)
        for name, item in vars(value).items():
            setattr(new, name, _copy(item, memo))
    elif isinstance(value, set) or _of_numpy(value, "ndarray"):
        new = value.copy()
    elif isinstance(value, random.Random) or _of_numpy(value, "random"):
        new = copy.deepcopy(value)
    memo[id(value)] = new
    return new


def _of_numpy(value: Any, kind: Literal["ndarray", "random"]) -> bool:
    """Whether it is an array, or a random generator, of NumPy."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    generators = (numpy.random.Generator, numpy.random.RandomState)
    return isinstance(value, numpy.ndarray if kind == "ndarray" else generators)


def rewinding(device: torch.device) -> Callable[[], None]:
    """A function that sets the random generators back to now."""
    return _randomness(device)


def _randomness(device: torch.device) -> Callable[[], None]:
    """A function that sets every global generator that a head may draw from back to now.

    A generator that nobody has drawn from is not touched: those of Python and NumPy belong to the
    whole process, and setting one would repeat the numbers that another thread has drawn.
    """
    generators: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (random.getstate, random.setstate),
    ]
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        generators.append((numpy_random.get_state, numpy_random.set_state))
    if device.type not in ("cpu", "meta"):
        backend = getattr(torch, device.type)
        where = () if device.type == "mps" else (device,)  # mps has one generator and no argument
        generators.append(
            (
                lambda: backend.get_rng_state(*where),
                lambda state: backend.set_rng_state(state, *where),
            )
        )
    states = [get_state() for get_state, _ in generators]

    def rewind() -> None:
        for (get_state, set_state), state in zip(generators, states, strict=True):
            if not _same(get_state(), state):
                set_state(state)

    return rewind


def _same(one: Any, other: Any) -> bool:
    """Whether two states of a generator are equal."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        try:
            return bool(one == other)  # of Python: 625 numbers, compared at once
        except ValueError:  # an array in it, of NumPy
            return all(map(_same, one, other))
    return bool(one.tobytes() == other.tobytes() if hasattr(one, "tobytes") else one == other)
