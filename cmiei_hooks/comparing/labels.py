"""Short names of what is compared, by which a reader can tell them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath

from .runs import WEIGHTS
from .saved_audit import Audited

__all__ = ["labels_of"]


def labels_of(groups: Sequence[Sequence[Audited]]) -> list[str]:
    """A name for each group: of one audit a part of its path, of several what their paths share.

    Example:
        >>> labels_of([[audit_of("runs/plain.pth")], [audit_of("runs/new.pth")]])
        ['plain', 'new']
        >>> labels_of([[audit_of("plain/best.pth")], [audit_of("new/best.pth")]])
        ['plain', 'new']
        >>> plain = [audit_of("plain/0.pth"), audit_of("plain/1.pth")]
        >>> labels_of([plain, [audit_of("new/0.pth"), audit_of("new/1.pth")]])
        ['plain', 'new']
    """
    parts = [[_parts(audit.path) for audit in group] for group in groups]
    single = all(len(group) == 1 for group in groups)
    names = _ends([group[0] for group in parts]) if single else _shared(parts)
    kind = "run" if single else "group"
    return names or [f"{kind} {number}" for number in range(1, len(groups) + 1)]


def _parts(path: str) -> tuple[str, ...]:
    found = PurePath(path)
    return (found.with_suffix("") if found.suffix in WEIGHTS else found).parts


def _ends(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """As many of the last parts of each path as are needed to tell them apart; what all end with
    says nothing.
    """
    while all(len(path) > 1 for path in paths) and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    if not all(paths):
        return []
    sizes = range(1, max(map(len, paths)) + 1)
    tails = ([os.path.join(*path[-size:]) for path in paths] for size in sizes)
    return next((names for names in tails if len(set(names)) == len(names)), [])


def _shared(groups: Sequence[Sequence[tuple[str, ...]]]) -> list[str]:
    """The last part that all paths of a group have, and no path of the others."""
    names = []
    for group in groups:
        others = {part for other in groups if other is not group for path in other for part in path}
        own = [part for part in group[0] if all(part in path for path in group[1:])]
        names += [part for part in own if part not in others][-1:]
    return names if len(names) == len(groups) else []
