"""Follow what modules return from one to the next, up to the logits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from .attribution import Leaf, Visit

__all__ = ["Chain", "Link", "chains", "ends", "goes_on"]

Link = tuple[Visit, Leaf]
"""A call, and the part of what it returns that goes on."""

Chain = tuple[Link, ...]

_LONGEST = 6
_NOT_CONTINUING = ("Softmax", "LogSoftmax", "Sigmoid", "Loss")
"""Ends of class names: a module that receives logits and only weighs or scores them."""


def ends(visits: Sequence[Visit], kinds: dict[str, str], batch: int) -> list[Link]:
    """Outputs ``[B, C]`` that no later module receives as they are, the outermost call of each.

    Whether they are logits remains to be seen: a function may take them on. What a normalisation
    returns is taken for features.

    Args:
        visits: the calls in the order of their starts.
        kinds: class name of the module at each path.
        batch: B.
    """
    found: dict[bytes, Link] = {}
    for visit in visits:
        for leaf in visit.outputs:
            # Augmentation inside the model may double the batch.
            rows = (batch, 2 * batch)
            two_axes = len(leaf.shape) == 2 and leaf.shape[0] in rows and leaf.floating
            features = "Norm" in kinds[visit.path]
            if visit.path and two_axes and not features and not _taken(visit, leaf, visits, kinds):
                found.setdefault(leaf.value, (visit, leaf))
    return list(found.values())


def chains(
    start: Visit, visits: Sequence[Visit], logits: Collection[bytes], before: Chain = ()
) -> Iterator[Chain]:
    """Every way from a call to logits on which each module gets the last one's output alone."""
    if len(before) == _LONGEST:
        return
    for leaf in start.outputs:
        chain = (*before, (start, leaf))
        if leaf.value in logits:
            yield chain
        else:
            for visit in _takers(start, leaf, visits):
                yield from chains(visit, visits, logits, chain)


def _takers(giver: Visit, leaf: Leaf, visits: Sequence[Visit]) -> list[Visit]:
    """Calls with this tensor alone; not past another that returned it unchanged (dropout)."""
    takers: list[Visit] = []
    for visit in visits:
        takes = visit.one_argument and visit.inputs[0].value == leaf.value and visit.path
        if takes and visit.start > giver.end:
            passed = any(
                any(out.value == leaf.value for out in taker.outputs) and taker.end < visit.start
                for taker in takers
            )
            if not passed and not any(visit.inside(taker) for taker in takers):
                takers.append(visit)
    return takers


def goes_on(visit: Visit, kinds: dict[str, str]) -> bool:
    """Whether a module makes features of what it receives, not a loss or probabilities."""
    features = any(len(out.shape) >= 2 for out in visit.outputs)
    return features and not kinds[visit.path].endswith(_NOT_CONTINUING)


def _taken(giver: Visit, leaf: Leaf, visits: Sequence[Visit], kinds: dict[str, str]) -> bool:
    return any(
        visit.start > giver.end
        and any(taken.value == leaf.value for taken in visit.inputs)
        and goes_on(visit, kinds)
        for visit in visits
    )
