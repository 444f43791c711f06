"""Which of the places where modalities meet are candidates, in which order, and which are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..fusion import unwrapped
from .attribution import Owner, Visit
from .flow import Chain, Link, chains
from .layout import Layout, Widths, find_layout
from .report import Candidate, DiscoverReport, RuledOut, candidate
from .trace import Trace

__all__ = ["Judged", "judge"]


@dataclass(frozen=True)
class Judged:
    """Everything that the runs have shown."""

    visits: Sequence[Visit]
    evaluated: Trace
    """In eval mode; empty if the model fails there."""
    names: Sequence[str]
    """Of the modalities."""
    ends: Sequence[Link]
    """Outputs ``[B, C]`` that nothing in the model takes on."""
    used: Mapping[bytes, bool]
    """For each end: whether what the model returns depends on it."""
    uncalled: Sequence[str]
    """Linear modules that the training branch never calls."""
    notes: tuple[str, ...] = ()
    """What is known from the runs."""

    @property
    def root(self) -> Visit:
        """The call of the model itself."""
        return next(visit for visit in self.visits if not visit.path)

    @property
    def alive(self) -> Owner:
        """The modalities that matter to what the model returns."""
        returned = self.root.outputs
        everyone = frozenset(range(len(self.names)))
        return frozenset().union(*(leaf.owner for leaf in returned)) if returned else everyone

    @property
    def widths(self) -> Widths:
        """How wide the features of each modality were when a module returned them."""
        widths: defaultdict[Owner, set[int]] = defaultdict(set)
        for visit in self.visits:
            for leaf in visit.outputs:
                if len(leaf.shape) >= 2:
                    widths[leaf.owner].add(leaf.shape[-1])
        return widths


@dataclass(frozen=True)
class _Found:
    chain: Chain
    layout: Layout
    raw: bool
    """Whether it receives what the model receives, so that it holds the backbone."""

    @property
    def logits(self) -> bytes:
        return self.chain[-1][1].value

    @property
    def order(self) -> tuple[float, ...]:
        classes = self.chain[-1][1].shape[1]
        return (self.raw, self.layout.rank, len(self.chain), classes < 2, -self.chain[0][0].end)

    def within(self, other: _Found) -> bool:
        (outer, _), *more = other.chain
        return not more and all(visit.inside(outer) for visit, _ in self.chain)


def judge(seen: Judged) -> DiscoverReport:
    """Candidates, best first, and what speaks against the other heads."""
    alive, widths = seen.alive, seen.widths
    if len(alive) < 2:
        return DiscoverReport((), (), _noise(seen) or (*_without_effect(seen), _TOO_FEW))
    layouts = {
        visit.key: find_layout(visit, seen.names, alive, widths)
        for visit in seen.visits
        if visit.path
    }
    found, ruled_out = _found(seen, layouts)
    found = sorted(_distinct(found), key=lambda one: one.order)
    ruled_out |= _other_ends(seen, layouts, found)
    if not found:
        ruled_out |= _dead_ends(seen, layouts)
    ruled_out |= {path: _why_uncalled(path, seen.evaluated) for path in seen.uncalled}
    notes = (*seen.notes, *(_noise(seen) or _without_effect(seen)))
    candidates = tuple(_candidate(one, seen.evaluated) for one in found)
    if not found:
        notes += (_NOTHING,)
    elif not all(one.called_in_eval for one in candidates):
        notes += (_TRAINING_BRANCH,)
    return DiscoverReport(
        candidates,
        tuple(RuledOut(unwrapped(path), why) for path, why in ruled_out.items()),
        notes,
    )


_TOO_FEW = (
    "no candidate: what the model returns depends on fewer than two of its inputs. Pass inputs "
    "that matter to it in training (labels too, if forward takes them)"
)
_NOTHING = (
    "no candidate: no module receives the modalities apart and leads through modules to logits "
    "[B, C]. If functions in the model's forward do that, put everything from the concatenation "
    "to the logits into one nn.Module and name it as the head"
)
_TRAINING_BRANCH = (
    "a head that is not called in eval mode is audited with: cmiei diagnose --training-branch"
)

_Layouts = Mapping[tuple[str, int], Layout | str | None]


def _found(seen: Judged, layouts: _Layouts) -> tuple[list[_Found], dict[str, str]]:
    raw = {leaf.value for leaf in seen.root.inputs if len(leaf.shape) >= 2 and leaf.floating}
    found: list[_Found] = []
    ruled_out: dict[str, str] = {}
    logits = [leaf.value for _, leaf in seen.ends if seen.alive <= leaf.owner]
    for visit in seen.visits:
        layout = layouts.get(visit.key)
        if not isinstance(layout, Layout):
            continue
        for chain in chains(visit, seen.visits, logits):
            calls = {link.path: link.calls for link, _ in chain if link.calls > 1}
            if calls:
                ruled_out |= {path: f"called {n} times in a forward" for path, n in calls.items()}
            elif seen.used[chain[-1][1].value]:
                holds_input = any(leaf.value in raw for leaf in visit.inputs)
                found.append(_Found(chain, layout, holds_input))
    return found, ruled_out


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    """Without parts of a candidate, but for those that do with splits where it needs modalities;
    of the chains to the same logits the longest, at most.
    """
    outer = [
        one
        for one in found
        if not any(
            one.within(other)
            and not other.raw
            and other.logits == one.logits
            and other.layout.rank <= one.layout.rank
            and (other.layout.splits is not None or one.layout.splits is None)
            for other in found
        )
    ]
    kept: list[_Found] = []
    for logits in dict.fromkeys(one.logits for one in outer):
        mine = sorted((one for one in outer if one.logits == logits), key=lambda one: one.order)
        apart = [one for one in mine if not one.raw]
        longest = max(apart or mine, key=lambda one: len(one.chain))
        kept += [one for one in mine if one is mine[0] or one is longest or len(one.chain) == 1]
    return kept


def _other_ends(seen: Judged, layouts: _Layouts, found: Sequence[_Found]) -> dict[str, str]:
    """The logits to which no candidate leads."""
    covered = {one.logits for one in found}
    links = {visit.key for one in found for visit, _ in one.chain}
    reasons = {}
    for visit, leaf in seen.ends:
        if leaf.value in covered or visit.key in links or not leaf.owner:
            continue
        reached = [seen.names[m] for m in sorted(leaf.owner & seen.alive)]
        layout = layouts[visit.key]
        if not seen.used[leaf.value]:
            reasons[visit.path] = "its output is discarded: nothing that the model returns uses it"
        elif not seen.alive <= leaf.owner:
            reasons[visit.path] = f"it depends on {' and '.join(reached)} only"
        elif isinstance(layout, str):
            reasons[visit.path] = layout
    return reasons


def _dead_ends(seen: Judged, layouts: _Layouts) -> dict[str, str]:
    """Where the modalities are apart, but from where no module leads to logits."""
    places = [visit for visit in seen.visits if isinstance(layouts.get(visit.key), Layout)]
    outer = [visit for visit in places if not any(visit.inside(other) for other in places)]
    why = (
        "the modalities are apart in its input, but plain functions or several arguments stand "
        "between what it returns and the logits"
    )
    return {visit.path: why for visit in outer if visit.calls == 1}


def _why_uncalled(path: str, evaluated: Trace) -> str:
    if (path, 0) in evaluated:
        return "called in eval mode only"
    return "never called as a module in training (unused, or its weight is used by a function)"


def _candidate(found: _Found, evaluated: Trace) -> Candidate:
    last, logits = found.chain[-1]
    in_eval = [evaluated.get(visit.key) for visit, _ in found.chain]
    called = all(record is not None for record in in_eval)
    one = 'one logit (for regression: measure="squared")'
    classes = one if logits.shape[1] == 1 else f"logits of {logits.shape[1]} classes"
    reason = f"{found.layout.how}; {unwrapped(last.path)} returns {classes}"
    if found.raw:
        reason += "; it receives the inputs of the model: each measurement runs all of it again"
    addresses = [leaf.address for _, leaf in found.chain]
    same = [
        record is None or address in {out.address for out in record.outputs}
        for record, address in zip(in_eval, addresses, strict=True)
    ]
    if called and not all(same):
        reason += "; in eval mode it returns something else: audit the training branch"
    return candidate(
        [unwrapped(visit.path) for visit, _ in found.chain],
        found.layout,
        addresses,
        logits.shape[1],
        reason=reason,
        called_in_eval=called,
    )


def _without_effect(seen: Judged) -> tuple[str, ...]:
    dead = [name for m, name in enumerate(seen.names) if m not in seen.alive]
    return tuple(f"exchanging {name} changes nothing that the model returns" for name in dead)


def _noise(seen: Judged) -> tuple[str, ...]:
    noisy = [
        visit
        for visit in seen.visits
        if any(leaf.noisy for leaf in visit.outputs)
        and not any(leaf.noisy for leaf in visit.inputs)
    ]
    sources = [v for v in noisy if not any(other.inside(v) for other in noisy)]
    if not sources:
        return ()
    paths = ", ".join(unwrapped(v.path) or "the model itself" for v in sources[:5])
    return (
        f"two runs with the same inputs differ, first in: {paths}. What comes after cannot be "
        "told apart: turn the randomness off (a generator of its own, a counter) and try again",
    )
