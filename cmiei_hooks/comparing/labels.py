"""Short names of what is compared, by which a reader can tell them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .saved_audit import Audited

__all__ = ["labels_of"]


def labels_of(groups: Sequence[Sequence[Audited]]) -> list[str]:
    """A name for each group: of one audit the end of its path, of several their folder.

    Example:
        The audits of ``plain/best.pth`` and ``new/best.pth`` are called by these paths; those of
        ``runs/plain.pth`` and ``runs/new.pth`` by the names of the files.
    """
    paths = [_path(group) for group in groups]
    if len(set(paths)) < len(paths) or not all(path.parts for path in paths):
        return [f"{'group' if len(group) > 1 else 'run'} {i}" for i, group in enumerate(groups, 1)]
    ends = range(1, max(len(path.parts) for path in paths) + 1)
    tails = ([os.path.join(*path.parts[-end:]) for path in paths] for end in ends)
    names = next(tail for tail in tails if len(set(tail)) == len(tail))
    return [
        f"{name} ({len(group)} runs)" if len(group) > 1 else name
        for name, group in zip(names, groups, strict=True)
    ]


def _path(group: Sequence[Audited]) -> Path:
    """The path of the audit, or the folder that its runs share."""
    if len(group) == 1:
        return Path(group[0].path)
    folders = [Path(audit.path).absolute().parent for audit in group]
    return Path(os.path.commonpath(folders))
