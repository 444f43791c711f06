"""Why modules are ruled out that might be taken for the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .attribution import ModuleCall
from .layout import Layout, listed
from .observations import Observations
from .report import NEVER_CALLED
from .routes import Route
from .trace import Key, Trace

__all__ = ["Layouts", "dead_ends", "other_ends", "why_uncalled"]

Layouts = Mapping[Key, Layout | str | None]
"""The layout of the input of each call; a text that says why there is none; None if a modality is
missing there."""


def other_ends(seen: Observations, layouts: Layouts, found: Sequence[Route]) -> dict[str, str]:
    """Why none of the routes that were found leads to these outputs."""
    covered = {route[-1][1].value for route in found}
    in_routes = {call.key for route in found for call, _ in route}
    reasons: dict[str, str] = {}
    discarded: dict[str, str] = {}
    for call, output in seen.ends:
        if output.value in covered or call.key in in_routes or not output.modalities:
            continue
        layout = layouts[call.key]
        if not seen.used[output.value]:
            discarded[call.path] = _discarded(call, seen.used)
        elif not seen.alive <= output.modalities:
            reached = [seen.names[m] for m in sorted(output.modalities)]
            only = f"depends only on {listed(reached)}"
            reasons[call.path] = _one_by_one(call.path, seen) or only
        elif isinstance(layout, str):
            reasons[call.path] = layout
    return discarded | reasons


def _one_by_one(path: str, seen: Observations) -> str:
    """What is seen if a module is called once for each modality; empty if it is not."""
    calls = [call for call in seen.calls if call.path == path]
    sets = [frozenset().union(*(x.modalities for x in call.inputs)) for call in calls]
    if len(calls) < 2 or any(len(one) != 1 for one in sets) or len(set(sets)) < len(sets):
        return ""
    reached = [seen.names[m] for one in sets for m in one]
    return f"called once for each of {listed(reached)}: it never receives them together"


def _discarded(call: ModuleCall, used: Mapping[bytes, bool]) -> str:
    unused = sum(not used.get(output.value, True) for output in call.outputs)
    if unused < len(call.outputs):
        which = "one of its outputs is" if unused == 1 else f"{unused} of its outputs are"
    else:
        which = "its output is" if unused == 1 else "its outputs are"
    them = "it" if unused == 1 else "them"
    return f"{which} discarded: what the model returns does not depend on {them}"


def dead_ends(seen: Observations, layouts: Layouts) -> dict[str, str]:
    """Where the modalities are separate, but from where no module leads to logits."""
    separate = [call for call in seen.calls if isinstance(layouts.get(call.key), Layout)]
    outer = [call for call in separate if not any(call.inside(other) for other in separate)]
    why = (
        "its input holds separate modalities, but functions, or modules with several arguments, "
        "stand between its output and the logits"
    )
    return {call.path: why for call in outer if call.calls == 1}


def why_uncalled(path: str, evaluated: Trace) -> str:
    """Why a module is ruled out that the training branch does not call."""
    if (path, 0) in evaluated:
        return "called in eval mode only"
    return NEVER_CALLED
