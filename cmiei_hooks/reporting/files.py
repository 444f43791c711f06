"""Reports on disk: JSON, CSV, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import CMIEIError
from .formatting import visible

__all__ = ["plain", "to_csv", "to_json", "whole_file", "write_files"]


def plain(value: Any) -> Any:
    """The value without what JSON does not know. Tuples become lists, and objects that have a
    ``to_dict`` become what it returns.

    NaN becomes null. Infinity becomes the word ``"inf"`` or ``"-inf"``, so that a setting can be
    read back. (Measured values go through ``finite`` first: there infinity is null too.)

    Example:
        >>> plain({"ABS_THR": float("inf"), "CI_r": float("nan")})
        {'ABS_THR': 'inf', 'CI_r': None}
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def to_json(value: Any) -> str:
    """The value as indented JSON; what JSON does not know otherwise is written as text."""
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False, default=str)
    return text + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows under the keys of the first one; no cell is a formula or hides a character."""
    text = io.StringIO(newline="")
    if rows:
        writer = csv.writer(text)
        writer.writerow(map(_cell, rows[0]))
        writer.writerows(map(_cell, row.values()) for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet takes what begins with one of these for a formula, unless a quote precedes."""
    if isinstance(value, (int, float)):
        return value  # written as it is; there may be millions
    text = str(value)
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(text)
    if not (text.isascii() and text.isprintable()):  # faster than to look for what is hidden
        text = visible(text)
    return "'" * formula + text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to. At the end the file there becomes ``path``; if what is inside
    fails or is interrupted, it is removed, and what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid4().hex}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_files(directory: Path, content: Mapping[str, str]) -> None:
    """Write the texts under their names into a directory, which is made.

    All are written under temporary names first and then renamed, so that a full disk leaves the
    files of before, and several writers never see half a file.

    Raises:
        CMIEIError: the directory cannot be written into, or the disk is full.
    """
    # Names of their own: another process may be writing the same files.
    unfinished = {name: directory / f".{uuid4().hex}.tmp" for name in content}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            # What cannot be written in UTF-8, of a file name in another encoding, is escaped.
            unfinished[name].write_bytes(text.encode("utf-8", "backslashreplace"))
        for name, path in unfinished.items():
            path.replace(directory / name)
    except OSError as error:
        raise CMIEIError(
            f"the report cannot be written to {visible(directory)}",
            got=visible(error),
            expected="a directory with room that can be written into",
            remedy="make room there, or pass another directory",
        ) from error
    finally:
        for path in unfinished.values():
            with contextlib.suppress(OSError):
                path.unlink()
