"""Ctrl-C at any moment of a command: one line, exit code 130, no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruptions"]

_INTERRUPTED = 130
_SOON = 0.01
"""Seconds."""


class Interruptions:
    """Inside, Ctrl-C raises ``KeyboardInterrupt``, whatever other code makes of it.

    Other code may turn it into an error of its own, or lose it: in a ``__del__``, Python prints
    "Exception ignored in" and goes on. So an error that follows Ctrl-C is taken for the
    interruption, and one that was lost is raised again.

    Args:
        message: what is said if the process must end at once.
    """

    def __init__(self, message: str) -> None:
        self._message, self._pressed, self._at_once = message, False, False
        main = threading.current_thread() is threading.main_thread()
        # Who has another handler, such as a notebook or a shell's background, keeps it.
        self._active = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> Interruptions:
        if self._active:
            signal.signal(signal.SIGINT, self._pressed_now)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._hook
        if self._pressed and isinstance(error, (Exception, SystemExit)):
            raise KeyboardInterrupt from error

    @contextmanager
    def ending_the_process(self) -> Iterator[None]:
        """Inside, Ctrl-C ends the process at once: there is nothing yet that could be lost.

        While torch is imported, an exception could end up in C++, which aborts.
        """
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def left_to_python(self) -> None:
        """From now on Ctrl-C does what it does in Python: it belongs to the program that is run."""
        self.__exit__(None, None, None)

    def _pressed_now(self, _: int, __: FrameType | None) -> None:
        self._pressed = True
        if self._at_once:
            with suppress(OSError):
                os.write(2, f"{self._message}\n".encode())
            os._exit(_INTERRUPTED)
        raise KeyboardInterrupt

    def _lost(self, unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Not now: what is raised in this hook is lost, too.
            threading.Timer(_SOON, signal.raise_signal, (signal.SIGINT,)).start()
        else:
            self._hook(unraisable)
