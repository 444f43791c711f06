"""Standard output and error of a command: whoever reads them may stop before the end."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..errors import CMIEIError

__all__ = ["ClosableStream", "readers_may_leave"]

_GONE = (errno.EBADF, errno.EIO, errno.EINVAL, errno.ESHUTDOWN)
"""Nobody reads any more: the pipe, the file or the terminal is closed (EINVAL: on Windows)."""


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Inside, what is written to a closed stdout or stderr (``| head -1``) is dropped in silence.

    Raises:
        CMIEIError: at the end, if stdout could not be written to for another reason, such as a full
            disk.
    """
    before = sys.stdout, sys.stderr
    if None in (sys.stdin, *before):
        _occupy_standard_files()
    out, err = map(ClosableStream, before)
    sys.stdout, sys.stderr = out, err  # what print needs of a stream
    try:
        yield
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
    if out.failed is not None:
        raise CMIEIError(
            "standard output cannot be written to",
            got=str(out.failed),
            expected="a terminal, a pipe or a file with room",
            remedy="make room there; reports are complete in their own files",
        )


def _occupy_standard_files() -> None:
    """Keep files that are opened later from taking the number of a closed standard file."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


class ClosableStream:
    """A text stream whose reader may leave at any time: what is written then is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._left = stream or io.StringIO(), stream is None
        self.failed: OSError | None = None
        """Why it cannot be written to, if not because nobody reads it any more."""

    def write(self, text: str) -> int:
        """As of any stream."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As of any stream."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As of any stream."""
        self._try(self._stream.flush)

    def _try(self, do: Callable[..., object], *text: str) -> None:
        if self._left:
            return
        try:
            do(*text)
        except BrokenPipeError:
            self._leave()
        except OSError as error:
            self.failed = None if error.errno in _GONE else error
            self._leave()
        except ValueError:
            if not self._stream.closed:  # a character that the encoding lacks
                raise
            self._leave()

    def _leave(self) -> None:
        """Write no more; nor may what is left in a buffer fail when Python ends."""
        self._left = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
