"""Reports on disk: each file is whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import CMIEIError

__all__ = ["write_files"]


def write_files(directory: Path, content: Mapping[str, str]) -> None:
    """Write the texts under their names into a directory, which is made.

    Raises:
        CMIEIError: it cannot be written into.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, written in content.items():
            unfinished = directory / f".{name}.unfinished"
            unfinished.write_text(written, encoding="utf-8", newline="")
            unfinished.replace(directory / name)
    except OSError as error:
        raise CMIEIError(
            f"the report cannot be written to {directory}",
            got=str(error),
            expected="a directory that can be written into",
            remedy="pass another one",
        ) from error
