"""Ctrl-C during an audit: what has been measured by then is still reported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .collect import collect, collect_again, settle

__all__ = ["finish_first"]


@contextmanager
def finish_first() -> Iterator[None]:
    """Ctrl-C ends the collection of samples; later, or a second time, it waits for the report."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    pressed = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if len(pressed) == 1 and _collecting(frame):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        raise KeyboardInterrupt


def _collecting(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is settle.__code__:
            return False
        if frame.f_code in (collect.__code__, collect_again.__code__):
            return True
        frame = frame.f_back
    return False
