"""Where saved audits are. It needs no torch: a parser of options reads it too."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["REPORT", "SAMPLES", "is_saved_audit"]

REPORT, SAMPLES = "report.json", "samples.csv"
"""The files that a comparison reads."""


def is_saved_audit(path: str | os.PathLike[str]) -> bool:
    """Whether it is a report.json, or a directory with one; else it may be a checkpoint."""
    found = Path(path)
    return found.name == REPORT or (found / REPORT).is_file()
