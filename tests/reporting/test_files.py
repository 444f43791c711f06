"""What is written: JSON that any reader takes, CSV that is safe, files that are whole."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import stat
import threading
from pathlib import Path

import pytest

from cmiei_hooks import CMIEIError
from cmiei_hooks.reporting import plain, to_csv, to_json, visible, whole_file, write_files


def test_numbers_that_json_does_not_know():
    values = {"nan": math.nan, "inf": [math.inf, -math.inf], "n": (1, 0.5, True, None, "inf")}
    assert plain(values) == {
        "nan": None,
        "inf": ["inf", "-inf"],
        "n": [1, 0.5, True, None, "inf"],
    }
    assert json.loads(to_json(values)) == plain(values)
    assert json.loads(to_json({"path": Path("a")})) == {"path": "a"}
    with pytest.raises(ValueError, match="JSON compliant"):  # what it is for
        json.dumps(values, allow_nan=False)


def test_a_spreadsheet_takes_no_cell_for_a_formula():
    cells = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "-1.5", "+2", "-inf", "a=1", 3, -4.5]
    (names, row) = csv.reader(io.StringIO(to_csv([{f"={i}": v for i, v in enumerate(cells)}])))
    assert names == [f"'={i}" for i in range(len(cells))]
    assert row == [
        "'=1+1",
        "'+A1",
        "'-A1",
        "'@SUM(A1)",
        r"'\t=1",
        r"'\r=1",
        *("-1.5", "+2", "-inf", "a=1", "3", "-4.5"),
    ]


def test_hidden_characters_and_separators_in_csv():
    names = ['a,"b"', "\x1b[31m", "\u202e", "x\ny", "\udcff"]
    rows = list(csv.reader(io.StringIO(to_csv([{"name": name} for name in names]))))
    assert rows == [["name"], ['a,"b"'], [r"\x1b[31m"], [r"\u202e"], [r"x\ny"], [r"\udcff"]]
    assert to_csv([]) == ""


def cell_by_cell(rows: list[dict]) -> str:
    """As the csv module writes them: words of a formula behind a quote, nothing hidden."""

    def cell(value: object) -> object:
        if isinstance(value, (int, float)):
            return value
        text = visible(str(value))
        try:
            float(text)
        except ValueError:
            return f"'{text}" if str(value)[:1] in ("=", "+", "-", "@", "\t", "\r") else text
        return text

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([cell(key) for key in rows[0]])
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


COLUMNS = {
    "floats": [0.0, -0.0, 1e-7, math.nan, math.inf, -math.inf, 1e22, 0.1, -1.5, 5e-324],
    "ints": [0, -1, 7, 7, 10**30, 0, -1, 2, 3, 4],
    "truths": [True, False] * 5,
    "truths and numbers": [1, True, 1.0, 0, False, 0.0, -0.0, None, "1", ""],
    "plain": ["0.5", "-0.25", "1.5e-07", "-3e+10", "", "r", "a b", "-1", "+2", "7"],
    "nearly plain": ["0.5", "-0.25", "-0.25e", "-", "+1.2.3", "-1_000", "r", "--1", "-.5", "+2 "],
    "words": ["a,b", 'say "no"', "=1+1", "@x", "+A1", "-A1", "-inf", "caf\u00e9", "\u202e", "'a"],
    "one comma": ["a", "b", "c", "d", "e,", "f", "g", "h", "i", "j"],
    "two commas in all": ["a", "b", "c", "d", ",e,", "f", "g", "h", "i", "j"],
    "one quote": ["a", "b", "c", "d", '"', "f", "g", "h", "i", "j"],
    "lines": ["a\nb", "\r", "\t=1", "\x1b[31m", "\udcff", "\x00", "\u2028", "a\r\nb", "\r=1", " a"],
    "nothing": [None] * 10,
    "empty": [""] * 10,
    "paths": [Path("a"), Path("-b"), Path("=c"), Path("d,e"), *[Path("f")] * 6],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_is_written_as_cell_by_cell(kind):
    rows = [{"x": value, "y": 1} for value in COLUMNS[kind]]
    assert to_csv(rows) == cell_by_cell(rows)
    alone = [{kind: value} for value in COLUMNS[kind]]
    assert to_csv(alone) == cell_by_cell(alone)


@pytest.mark.negative_control
def test_columns_beside_each_other_are_written_as_cell_by_cell():
    rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in zip(*COLUMNS.values(), strict=True)]
    rows = [{"=a,b": None, **row} for row in rows]
    assert to_csv(rows) == cell_by_cell(rows)
    assert to_csv(rows) != cell_by_cell([*rows[:-1], {**rows[-1], "floats": 0.0}])


def test_rows_that_can_be_had_in_columns_are_not_made():
    class Pieces(list):
        def in_columns(self):
            yield {"a": [1, 2], "b": ["x", "=y"]}
            yield {"a": (3,), "b": ("z",)}

    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "=y"}, {"a": 3, "b": "z"}]
    assert to_csv(Pieces([rows[0], None, None])) == cell_by_cell(rows)


def test_names_of_any_bytes(tmp_path):
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    write_files(directory, {"report.json": to_json({"path": str(directory)})})
    (file,) = directory.iterdir()
    assert json.loads(file.read_text("utf-8"))["path"] == str(directory)


def test_the_files_have_the_usual_permissions(tmp_path):
    write_files(tmp_path, {"a": "text"})
    (tmp_path / "b").write_text("text")
    a, b = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab")
    assert a == b


def full_after(monkeypatch, files: int) -> None:
    """The disk is full after some files, in the middle of the next one."""
    written = []
    write = Path.write_bytes

    def fail(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) <= files:
            return write(self, data)
        write(self, data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", fail)


def test_a_full_disk_leaves_the_old_report_whole(tmp_path, monkeypatch):
    old, new = {"a": "old a", "b": "old b"}, {"a": "new a", "b": "new b"}
    write_files(tmp_path, old)
    full_after(monkeypatch, 1)
    with pytest.raises(CMIEIError) as error:
        write_files(tmp_path, new)
    assert all((error.value.problem, error.value.got, error.value.expected, error.value.remedy))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == old
    monkeypatch.undo()
    write_files(tmp_path, new)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == new


def test_what_is_not_a_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(CMIEIError):
        write_files(tmp_path / "file", {"a": "text"})


def test_an_interruption_leaves_nothing_unfinished(tmp_path, monkeypatch):
    def interrupt(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, {"a": "text"})
    assert not list(tmp_path.iterdir())


def test_two_writers_and_a_reader_never_see_half_a_file(tmp_path):
    texts = {letter * 200_000 for letter in "ab"}
    write_files(tmp_path, {"report": "a" * 200_000})
    failed = []

    def write(text: str) -> None:
        try:
            for _ in range(30):
                write_files(tmp_path, {"report": text})
        except CMIEIError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert (tmp_path / "report").read_text() in texts
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_file_that_is_not_finished_leaves_the_one_of_before(tmp_path, error):
    path = tmp_path / "folder" / "weights.pth"
    with whole_file(path) as file:
        file.write_text("first")
        assert not path.exists()
    with pytest.raises(error), whole_file(path) as file:
        file.write_text("half")
        raise error
    assert path.read_text() == "first"
    assert [found.name for found in path.parent.iterdir()] == ["weights.pth"]
