"""Of what a report is: the date, versions, the state of the user's repository, a checksum."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from calendar import month_name
from datetime import date
from pathlib import Path
from typing import Any

from .._version import __version__

__all__ = ["day", "git_state", "sha256", "today", "versions"]


def today() -> str:
    """The date where this machine is: ``2026-11-26``."""
    return date.today().isoformat()


def day(iso: str) -> str:
    """Such a date in words: ``26 November 2026``. A time behind it is left out."""
    known = date.fromisoformat(iso[:10])
    return f"{known.day} {month_name[known.month]} {known.year}"


def versions() -> dict[str, str]:
    """The versions of Python, torch and this package."""
    import torch  # noqa: PLC0415  # the command line uses this room without torch

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cmiei_hooks": __version__,
    }


def git_state(directory: str | os.PathLike[str] = ".") -> dict[str, Any] | None:
    """Commit, branch and whether there are uncommitted changes; None outside a repository."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", os.fspath(directory), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def sha256(path: str | os.PathLike[str]) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
