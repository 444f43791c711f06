"""Which usual function a model applies between one module and the next: an activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .attribution import AttributedTensor, ModalitySet, ModuleCall
from .trace import Key, Trace

__all__ = ["ACTIVATIONS", "Activations", "activations_between", "calls_around_functions"]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "torch.relu": torch.relu,
    "torch.nn.functional.gelu": functional.gelu,
    "torch.tanh": torch.tanh,
    "torch.sigmoid": torch.sigmoid,
    "torch.nn.functional.silu": functional.silu,
    "torch.nn.functional.leaky_relu": functional.leaky_relu,
}
"""The functions that are tried, by the names under which users call them."""

Activations = Mapping[tuple[bytes, bytes], str]
"""For what a module returned and what another one received, the function that leads there."""

_MOST_CALLS = 64
"""The largest number of calls whose tensors are kept to look for functions between them."""

_ROUNDING = 64
"""How many times the resolution of its type a value may differ: kernels round differently."""

_Side = tuple[ModuleCall, AttributedTensor]


def calls_around_functions(calls: Sequence[ModuleCall], alive: ModalitySet) -> set[Key]:
    """The calls between which a function may stand; none if there are too many of them."""
    givers, receivers = _sides(calls, alive)
    shapes = {one.shape for _, one in receivers}
    keys = {call.key for call, _ in receivers}
    keys |= {call.key for call, one in givers if one.shape in shapes} if keys else set()
    return keys if len(keys) <= _MOST_CALLS else set()


def activations_between(
    calls: Sequence[ModuleCall], alive: ModalitySet, kept: Trace
) -> dict[tuple[bytes, bytes], str]:
    """The functions that turn what one module returned into what a later one received.

    Args:
        calls: as attributed.
        alive: the modalities that reach what the model returns.
        kept: a run with the tensors of ``calls_around_functions``.
    """
    givers, receivers = _sides(calls, alive)
    found: dict[tuple[bytes, bytes], str] = {}
    for receiver, received in receivers:
        for giver, given in givers:
            if giver.end < receiver.start and given.shape == received.shape:
                before = _value(kept, giver.key, "outputs", given)
                after = _value(kept, receiver.key, "inputs", received)
                if before is not None and after is not None:
                    name = activation_of(before, after)
                    if name:
                        found[given.value, received.value] = name
    return found


def activation_of(before: Tensor, after: Tensor) -> str | None:
    """The name of the function that turns one tensor into the other; None if there is none."""
    if not before.is_floating_point() or before.dtype != after.dtype:
        return None
    rounding = _ROUNDING * torch.finfo(after.dtype).eps
    scale = after.abs().max().item() if after.numel() else 0.0
    for name, function in ACTIVATIONS.items():
        if torch.allclose(function(before), after, rtol=rounding, atol=rounding * scale):
            return name
    return None


def _sides(calls: Sequence[ModuleCall], alive: ModalitySet) -> tuple[list[_Side], list[_Side]]:
    """What modules return behind the fusion, and what they receive there from no module."""
    givers = [
        (call, out) for call in calls if call.path for out in call.outputs if _fused(out, alive)
    ]
    # The model itself, or a part of it, may return the same tensor later as a hidden feature.
    first: dict[bytes, int] = {}
    for call in calls:
        for out in call.outputs:
            first[out.value] = min(call.end, first.get(out.value, call.end))
    receivers = [
        (call, call.inputs[0])
        for call in calls
        if call.path and call.one_argument and _fused(call.inputs[0], alive)
    ]
    return givers, [
        (call, one) for call, one in receivers if first.get(one.value, call.start) >= call.start
    ]


def _fused(one: AttributedTensor, alive: ModalitySet) -> bool:
    return one.floating and not one.noisy and len(one.shape) >= 2 and alive <= one.modalities


def _value(kept: Trace, key: Key, side: str, one: AttributedTensor) -> Tensor | None:
    return kept[key].values.get((side, one.address)) if key in kept else None
