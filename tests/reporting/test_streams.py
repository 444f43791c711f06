"""Whoever reads stdout or stderr may stop at any time."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from cmiei_hooks.errors import CMIEIError
from cmiei_hooks.reporting import readers_may_leave


class Failing(io.StringIO):
    """A stream whose writes, or whose last flush, fail."""

    def __init__(self, error: Exception, *, late: bool = False) -> None:
        super().__init__()
        self.error, self.late = error, late

    def write(self, text: str) -> int:
        if not self.late:
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.late:
            raise self.error


GONE = [BrokenPipeError("closed"), OSError(errno.EBADF, "closed"), OSError(errno.EIO, "closed")]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", GONE)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_takes_what_is_written(monkeypatch, name, error, late):
    stream = Failing(error, late=late)
    monkeypatch.setattr(sys, name, stream)
    with readers_may_leave():
        for _ in range(3):
            print("text", file=getattr(sys, name))
        getattr(sys, name).writelines(["a", "b"])
        assert not getattr(sys, name).isatty()
    assert getattr(sys, name) is stream


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_told_for_stdout_alone(monkeypatch, late, golden):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(sys, "stderr", Failing(full, late=late))
    with readers_may_leave():
        print("text", file=sys.stderr)
    monkeypatch.setattr(sys, "stdout", Failing(full, late=late))
    behind = []
    with pytest.raises(CMIEIError) as error, readers_may_leave():
        print("text")
        behind.append("a report is still written")
    assert behind
    golden(error.value)


@pytest.mark.negative_control
def test_without_it_these_errors_are_raised(monkeypatch):
    for error in GONE:
        monkeypatch.setattr(sys, "stdout", Failing(error))
        with pytest.raises(OSError, match="closed"):
            print("text")


def test_a_character_that_cannot_be_encoded_is_still_an_error(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(UnicodeEncodeError), readers_may_leave():
        print("é")
    stream.close()
    with readers_may_leave():
        print("text")


def test_there_may_be_no_stream_at_all(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with readers_may_leave():
        print("text")
        print("text", file=sys.stderr)
    assert sys.stdout is None
    assert sys.stderr is None
