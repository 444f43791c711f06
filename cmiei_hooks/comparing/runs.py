"""What is compared: runs and groups of them, and where saved audits are.

It needs no torch: the parser of the command line reads it too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

__all__ = [
    "REPORT",
    "SAMPLES",
    "WEIGHTS",
    "audit_of",
    "is_saved_audit",
    "is_without_runs",
    "refuse_sizes",
]

REPORT, SAMPLES = "report.json", "samples.csv"
"""The files of an audit that a comparison reads."""
WEIGHTS = (".pth", ".pt", ".safetensors")
"""How the names of checkpoints end."""
_WRITTEN = (".csv", ".html", ".md", ".json")


def is_saved_audit(path: str | os.PathLike[str]) -> bool:
    """Whether it is a report.json, or a directory with one; else it may be a checkpoint."""
    found = Path(path)
    return found.name == REPORT or (found / REPORT).is_file()


def audit_of(path: str | os.PathLike[str]) -> Path | None:
    """The saved audit that a file such as its samples.csv or report.html belongs to."""
    found = Path(path)
    known = found.suffix in _WRITTEN and found.is_file() and is_saved_audit(found.parent)
    return found.parent if known else None


def is_without_runs(path: str | os.PathLike[str]) -> bool:
    """Whether it is a directory that holds neither an audit nor checkpoints."""
    found = Path(path)
    return (
        found.is_dir()
        and not is_saved_audit(found)
        and not any(inner.suffix in WEIGHTS for inner in found.iterdir())
    )


def refuse_sizes(groups: Sequence[Sequence[object]]) -> None:
    """Refuse groups of runs that cannot be compared pair by pair.

    Raises:
        ConfigError: there are fewer than two groups, or they do not have as many runs each.
    """
    sizes = [len(group) for group in groups]
    if len(sizes) < 2 or len(set(sizes)) > 1 or not sizes[0]:
        raise ConfigError(
            "there are no two runs to compare" if sum(sizes) < 2 else "the runs make no pairs",
            got=f"{len(sizes)} group{'s' * (len(sizes) != 1)} of "
            f"{' and '.join(map(str, sizes))} runs"
            if sum(sizes) > 1
            else f"{sum(sizes)} run{'s' * (sum(sizes) != 1)}",
            expected="two or more runs, or two or more groups with as many runs each",
            remedy="name another run"
            if sum(sizes) < 2
            else "runs are paired in their order (by seed): leave out those without a partner",
        )
