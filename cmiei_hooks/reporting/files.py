"""Reports on disk: JSON, CSV, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
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
    """The rows under the keys of the first one; no cell is a formula or hides a character.

    They are written as the csv module writes them, but column by column: there may be millions of
    cells. Rows that can be had ``in_columns`` (mappings from key to cells, of some rows each) are
    not made one by one.
    """
    if not rows:
        return ""
    pieces = rows.in_columns() if isinstance(rows, _InColumns) else _in_columns(rows)
    lines = [_lines([[key] for key in rows[0]])]
    lines += (_lines([*piece.values()]) for piece in pieces)
    return "".join(lines)


@runtime_checkable
class _InColumns(Protocol):
    def in_columns(self) -> Iterator[Mapping[str, Sequence[object]]]:
        """The columns of some rows, then those of the next ones."""


def _in_columns(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Sequence[object]]]:
    cells = zip(*(row.values() for row in rows), strict=True)
    yield dict(zip(rows[0], cells, strict=True))


def _lines(columns: Sequence[Sequence[object]]) -> str:
    """The lines of some rows, by their columns."""
    texts = [*map(_texts, columns)]
    if len(texts) == 1:  # an empty line would be no row
        texts = [[text or '""' for text in texts[0]]]
    return "\r\n".join([*map(",".join, zip(*texts, strict=True)), ""])


def _texts(cells: Sequence[object]) -> Sequence[str]:
    """The cells of a column as they are written."""
    kinds = {*map(type, cells)}
    if kinds == {float}:
        return [*map(repr, cells)]
    if kinds == {str} and _are_plain(cells):  # type: ignore[arg-type]  # all are text
        return cells  # type: ignore[return-value]  # as above
    if kinds in ({str}, {int}):  # of one kind: 1 and True are equal
        each = {*cells}
        written = dict(zip(each, map(str if kinds == {int} else _written, each), strict=True))
        return [*map(written.__getitem__, cells)]
    return [*map(_written, cells)]


_NOT_PLAIN = re.compile(r",(?:[=@]|[+-](?!\d+(?:\.\d*)?(?:e[+-]?\d+)?,))")
"""A comma, and what a spreadsheet may take for a formula."""


def _are_plain(texts: Sequence[str]) -> bool:
    """Whether all are written as they are. Looked at together, since each by itself takes long."""
    line = f",{','.join(texts)},"
    plain_characters = line.isascii() and line.isprintable() and '"' not in line
    return plain_characters and line.count(",") == len(texts) + 1 and not _NOT_PLAIN.search(line)


def _written(value: object) -> str:
    """A cell. A spreadsheet takes what begins with one of these for a formula, unless a quote
    precedes.
    """
    text = str(value)
    if isinstance(value, (int, float)):
        return text
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(text)
    text = "'" * formula + visible(text)
    quoted = text.replace('"', '""')
    return f'"{quoted}"' if "," in text or quoted != text else text


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
