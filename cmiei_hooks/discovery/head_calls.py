"""Which inputs of the model reach which calls of a head, and which rows of what it receives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..counterfactual import isolated
from ..fusion import Call, call_tensors, training_branch
from ..training import paused
from .attribution import ModalitySet
from .inputs import bare_model, call_of, read_inputs
from .trace import device_of, fingerprint

__all__ = ["modalities_apart"]

_ROUNDING = 10.0
"""A change counts if it is this many times larger than the difference between two equal runs."""


@dataclass(frozen=True)
class _HeadCalls:
    names: tuple[str, ...]
    """The inputs of the model."""
    rows: tuple[tuple[ModalitySet, ...], ...]
    """For each call of the head, the inputs that change each row of what it receives."""


def modalities_apart(
    model: nn.Module,
    inputs: Sequence[Any],
    head: nn.Module,
    modalities: int,
    mode: Callable[[nn.Module], AbstractContextManager[None]] = training_branch,
) -> str:
    """Whether the modalities reach the head one by one: in calls, or in rows, of their own.

    The model runs once for each of its inputs and twice more.

    Args:
        model: the model.
        inputs: what it is called with.
        head: a module of it.
        modalities: the number of modalities that the head is said to receive.
        mode: how the model runs.

    Returns:
        What was seen, as text; empty if they reach it together, or if that cannot be told.
    """
    try:
        calls = _attributed(model, inputs, head, mode)
    except Exception:  # a forward may raise anything in another branch than the one it is made for
        return ""
    if calls is None:
        return ""
    of_calls = [frozenset().union(*rows) for rows in calls.rows]
    if _one_each(of_calls, modalities):
        texts = [f"call {i} with {calls.names[min(one)]}" for i, one in enumerate(of_calls, 1)]
        return f"the head is called once for each input of the model: {', '.join(texts)}"
    for rows in calls.rows:
        known = [one for one in rows if one]
        if _one_each(known, modalities):
            texts = [
                f"{rows.count(one)} rows of {calls.names[min(one)]}" for one in dict.fromkeys(known)
            ]
            return f"the inputs of the model stand one under the other: {', '.join(texts)}"
    return ""


def _one_each(sets: Sequence[ModalitySet], modalities: int) -> bool:
    """Whether each is of one input, and all together of as many as there are modalities."""
    return all(len(one) == 1 for one in sets) and len(set(sets)) == modalities


def _attributed(
    model: nn.Module,
    inputs: Sequence[Any],
    head: nn.Module,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
) -> _HeadCalls | None:
    bare = bare_model(model)
    known = read_inputs(bare, call_of(bare, inputs))
    given = dict(call_tensors(known.call))
    floating = [given[group[0]].is_floating_point() for group in known.groups]
    runs = [_rows(bare, known.fresh(), head, mode) for _ in range(2)]
    runs += [_rows(bare, known.permuted(m), head, mode) for m in range(len(known.groups))]
    if any([len(x) for x in run] != [len(x) for x in runs[0]] for run in runs):
        return None
    base, again, *permuted = runs
    found = []
    for i, rows in enumerate(base):
        least = _ROUNDING * float((rows - again[i]).abs().max()) if len(rows) else 0.0
        changed = [((rows - run[i]).abs() > least).tolist() for run in permuted]
        sets = (
            frozenset(m for m, one in enumerate(changed) if one[row]) for row in range(len(rows))
        )
        found.append(tuple(_without_masks(one, floating) for one in sets))
    return _HeadCalls(known.names, tuple(found))


def _without_masks(inputs: ModalitySet, floating: Sequence[bool]) -> ModalitySet:
    """Without the integers that come with others: masks and positions belong to what they mask."""
    own = frozenset(m for m in inputs if floating[m])
    return own or frozenset(sorted(inputs)[:1])


def _rows(
    model: nn.Module,
    call: Call,
    head: nn.Module,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
) -> list[Tensor]:
    """For each call of the head one number for each row of its first tensor of features."""
    found: list[Tensor] = []

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        received = [x for _, x in call_tensors((args, kwargs)) if x.is_floating_point() and x.dim()]
        if received:
            found.append(fingerprint(received[0].movedim(0, -1)).columns[-1])

    args, kwargs = call
    hook = head.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with (
            isolated(model, device_of(model, call)),
            paused(model),
            mode(model),
            torch.enable_grad(),  # some models register gradient hooks in forward
        ):
            model(*args, **kwargs)
    finally:
        hook.remove()
    return found
