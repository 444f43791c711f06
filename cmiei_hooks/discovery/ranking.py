"""Which calls are candidates for the head, in which order, and what rules the others out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..fusion import Path, unwrapped
from .branches import Branches
from .candidate import Candidate, Link, candidate
from .functions import ACTIVATIONS, Activations
from .layout import Layout, find_layout, rows_of_one_modality
from .observations import Observations
from .report import DiscoverReport, RuledOut
from .routes import Route, routes
from .ruled_out import Layouts, dead_ends, other_ends, why_uncalled
from .whole_model import notes_on_whole_model, whole_model

__all__ = ["rank_candidates"]


@dataclass(frozen=True)
class _HeadRoute:
    """A route that can be the head, with the layout of its input."""

    route: Route
    layout: Layout
    holds_backbone: bool
    """Whether it receives what the model itself receives."""

    @property
    def logits(self) -> bytes:
        return self.route[-1][1].value

    @property
    def order(self) -> tuple[float, ...]:
        classes = self.route[-1][1].shape[1]
        late = -self.route[0][0].end
        return (self.holds_backbone, self.layout.penalty, len(self.route), classes < 2, late)

    def within(self, other: _HeadRoute) -> bool:
        (outer, _), *more = other.route
        return not more and all(call.inside(outer) for call, _ in self.route)


_TOO_FEW = (
    "no candidate: what the model returns depends on fewer than two of its inputs. Pass inputs "
    "that matter to it in training (labels too, if forward takes them)"
)
_NOTHING = (
    "no candidate: no module receives separate modalities and leads to logits [B, C] through "
    "modules only. If functions in the model's forward do this, move everything from the "
    "concatenation to the logits into one nn.Module and name it as the head"
)
_APART = (
    "no candidate: each of the tensors that the model returns depends on one modality alone, so "
    "the influence of several on one prediction cannot be compared"
)
_STACKED = (
    "no candidate: the modalities are stacked on the batch axis, and no module receives those of "
    "one sample together. There is no prediction that depends on several of them, so their "
    "influence on it cannot be compared"
)


def rank_candidates(seen: Observations) -> DiscoverReport:
    """The candidates, best first, and what rules the other modules out."""
    alive, widths = seen.alive, seen.widths
    if len(alive) < 2:
        notes = _noise(seen) or (*_without_effect(seen), _TOO_FEW)
        return DiscoverReport((), (), (*seen.notes, *notes))
    layouts = {
        call.key: find_layout(call, seen.names, alive, widths) for call in seen.calls if call.path
    }
    found, ruled_out = _head_routes(seen, layouts)
    found = sorted(_without_repetition(found), key=lambda one: one.order)
    ruled_out |= other_ends(seen, layouts, [one.route for one in found])
    if seen.branches:
        ruled_out = {
            path: why
            for path, why in ruled_out.items()
            if path not in {call.path for call in seen.branches.calls}
        }
    if not found and not seen.branches:
        ruled_out |= dead_ends(seen, layouts)
    ruled_out |= {path: why_uncalled(path, seen.evaluated) for path in seen.uncalled}
    notes = (*seen.notes, *(_noise(seen) or _without_effect(seen)))
    small = [_candidate(one, seen) for one in found if not one.holds_backbone]
    large = [_candidate(one, seen) for one in found if one.holds_backbone]
    branches = [_of_branches(seen.branches, seen)] if seen.branches else []
    candidates = (*small, *branches, *large)
    if not candidates:
        nothing = _why_nothing(seen)
        candidates = whole_model(seen) if nothing == _NOTHING else ()
        notes += notes_on_whole_model(candidates[0]) if candidates else (nothing,)
    return DiscoverReport(
        candidates,
        tuple(RuledOut(unwrapped(path), why) for path, why in ruled_out.items()),
        notes,
    )


def _head_routes(seen: Observations, layouts: Layouts) -> tuple[list[_HeadRoute], dict[str, str]]:
    raw = {x.value for x in seen.root.inputs if len(x.shape) >= 2 and x.floating}
    found: list[_HeadRoute] = []
    ruled_out: dict[str, str] = {}
    logits = [output.value for _, output in seen.ends if seen.alive <= output.modalities]
    for call in seen.calls:
        layout = layouts.get(call.key)
        if not isinstance(layout, Layout):
            continue
        for route in routes(call, seen.calls, logits, seen.functions):
            # Between the first and the last link a module may be called elsewhere, too.
            outer = (route[0][0], route[-1][0])
            repeated = {one.path: one.calls for one in outer if one.calls > 1}
            if repeated:
                ruled_out |= {p: f"called {n} times in one forward" for p, n in repeated.items()}
            elif seen.used[route[-1][1].value]:
                holds_backbone = any(x.value in raw for x in call.inputs)
                found.append(_HeadRoute(route, layout, holds_backbone))
    return found, ruled_out


def _without_repetition(found: Sequence[_HeadRoute]) -> list[_HeadRoute]:
    """Drop what is inside another candidate, unless it takes splits where that needs modalities.

    Of several routes to the same logits the best one, the longest one and single modules stay.
    """
    outer = [
        one
        for one in found
        if not any(
            one.within(other)
            and not other.holds_backbone
            and other.logits == one.logits
            and other.layout.penalty <= one.layout.penalty
            and (other.layout.splits is not None or one.layout.splits is None)
            for other in found
        )
    ]
    kept: list[_HeadRoute] = []
    for logits in dict.fromkeys(one.logits for one in outer):
        same = sorted((one for one in outer if one.logits == logits), key=lambda one: one.order)
        small = [one for one in same if not one.holds_backbone]
        longest = max(small or same, key=lambda one: len(one.route))
        kept += [one for one in same if one is same[0] or one is longest or len(one.route) == 1]
    return kept


def _candidate(found: _HeadRoute, seen: Observations) -> Candidate:
    last, logits = found.route[-1]
    in_eval = [seen.evaluated.get(call.key) for call, _ in found.route]
    called = all(record is not None for record in in_eval)
    one = 'one logit (for regression: measure="squared")'
    classes = one if logits.shape[1] == 1 else f"logits of {logits.shape[1]} classes"
    reason = f"{found.layout.description}; {unwrapped(last.path)} returns {classes}"
    if found.holds_backbone:
        reason += "; receives the inputs of the model: each estimate runs all of it again"
    addresses = [output.address for _, output in found.route]
    same = not called or all(
        record is None or address in {out.address for out in record.outputs}
        for record, address in zip(in_eval, addresses, strict=True)
    )
    if not same:
        reason += "; returns something else in eval mode: audit the training branch"
    head, outputs = _links(found.route, seen.functions)
    return candidate(
        head,
        found.layout,
        outputs,
        logits.shape[1],
        reason=reason,
        called_in_eval=called,
        same_in_eval=same,
    )


def _why_nothing(seen: Observations) -> str:
    """What the model does with its modalities, if no module can be the head."""
    returned = [out for out in seen.root.outputs if out.modalities]
    if returned and all(len(out.modalities) < 2 for out in returned):
        return _APART
    ends = [out for _, out in seen.ends if seen.used[out.value]]
    matrices = [out for out in (*ends, *returned) if len(out.shape) >= 2]
    found = [out for out in matrices if seen.alive <= out.modalities]
    stacked = bool(found) and all(rows_of_one_modality(out, seen.names) for out in found)
    return _STACKED if stacked else _NOTHING


def _of_branches(found: Branches, seen: Observations) -> Candidate:
    """Each modality has logits of its own, and the model returns their sum or mean."""
    in_eval = all(call.key in seen.evaluated for call in found.calls)
    return Candidate(
        tuple(unwrapped(call.path) for call in found.calls),
        None,
        None,
        tuple(seen.names[m] for m in found.modalities),
        -1,
        (None,) * len(found.calls),
        found.classes,
        f"the model returns the {found.combine} of the logits of each modality, on this batch",
        in_eval,
        combine=found.combine,
    )


def _links(route: Route, functions: Activations) -> tuple[list[Link], list[Path]]:
    """The links of a chain, with functions between the modules, and where each one's output is."""
    head: list[Link] = []
    outputs: list[Path] = []
    before = b""
    for call, output in route:
        if head and (name := functions.get((before, call.inputs[0].value))):
            head.append(ACTIVATIONS[name])
            outputs.append(())
        head.append(unwrapped(call.path))
        outputs.append(output.address)
        before = output.value
    return head, outputs


def _without_effect(seen: Observations) -> tuple[str, ...]:
    dead = [name for m, name in enumerate(seen.names) if m not in seen.alive]
    return tuple(f"permuting {name} changes nothing that the model returns" for name in dead)


def _noise(seen: Observations) -> tuple[str, ...]:
    noisy = [
        call
        for call in seen.calls
        if any(output.noisy for output in call.outputs) and not any(x.noisy for x in call.inputs)
    ]
    sources = [call for call in noisy if not any(other.inside(call) for other in noisy)]
    if not sources:
        return ()
    paths = ", ".join(unwrapped(call.path) or "the model itself" for call in sources[:5])
    return (
        f"two runs with the same inputs differ, first in: {paths}. Nothing can be said about "
        "what follows: turn the randomness off (a private generator, a counter) and try again",
    )
