"""Follow the output of a module through the modules that receive it, up to the logits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from .attribution import AttributedTensor, ModuleCall
from .functions import Activations

__all__ = ["Hop", "Route", "consumes", "possible_logits", "routes"]

Hop = tuple[ModuleCall, AttributedTensor]
"""A call, and which of its outputs the next one receives."""

Route = tuple[Hop, ...]
"""Calls that follow one another from the fusion to the logits."""

_LONGEST = 6
"""The largest number of modules in a route."""

_SCORING = ("Softmax", "LogSoftmax", "Sigmoid", "Loss")
"""How the class names of modules end that receive logits and turn them into scores or a loss."""


def possible_logits(
    calls: Sequence[ModuleCall], class_names: Mapping[str, str], rows: Collection[int]
) -> list[Hop]:
    """Outputs ``[B, C]`` that no later module receives unchanged, with the outermost call of each.

    They need not be logits: a function may compute something else from them. The output of a
    normalisation counts as features.

    Args:
        calls: in the order in which they begin.
        class_names: of the module at each path.
        rows: how many they may have: B, or more if the model stacks its inputs.
    """
    found: dict[bytes, Hop] = {}
    for call in calls:
        for output in call.outputs:
            two_axes = len(output.shape) == 2 and output.shape[0] in rows and output.floating
            candidate = call.path and two_axes and "Norm" not in class_names[call.path]
            if candidate and not _consumed(call, output, calls, class_names):
                found.setdefault(output.value, (call, output))
    return list(found.values())


def routes(
    start: ModuleCall,
    calls: Sequence[ModuleCall],
    logits: Collection[bytes],
    functions: Activations,
    before: Route = (),
) -> Iterator[Route]:
    """Every route from a call to logits on which each module receives only the last output.

    The output may go through one of the functions on its way.
    """
    if len(before) == _LONGEST:
        return
    for output in start.outputs:
        route = (*before, (start, output))
        if output.value in logits:
            yield route
        else:
            for call in _receivers(start, output, calls, functions):
                yield from routes(call, calls, logits, functions, route)


def _receivers(
    giver: ModuleCall,
    output: AttributedTensor,
    calls: Sequence[ModuleCall],
    functions: Activations,
) -> list[ModuleCall]:
    """Calls with this tensor alone; none after a receiver that returned it unchanged (dropout)."""
    receivers: list[ModuleCall] = []
    for call in calls:
        if not (call.one_argument and call.path and call.start > giver.end):
            continue
        received = call.inputs[0].value
        if received == output.value or (output.value, received) in functions:
            passed_on = any(
                any(out.value == received for out in other.outputs) and other.end < call.start
                for other in receivers
            )
            if not passed_on and not any(call.inside(other) for other in receivers):
                receivers.append(call)
    return receivers


def consumes(call: ModuleCall, class_names: Mapping[str, str]) -> bool:
    """Whether a module computes features from its input, rather than probabilities or a loss."""
    features = any(len(out.shape) >= 2 for out in call.outputs)
    return features and not class_names[call.path].endswith(_SCORING)


def _consumed(
    giver: ModuleCall,
    output: AttributedTensor,
    calls: Sequence[ModuleCall],
    class_names: Mapping[str, str],
) -> bool:
    return any(
        call.start > giver.end
        and any(received.value == output.value for received in call.inputs)
        and consumes(call, class_names)
        for call in calls
    )
