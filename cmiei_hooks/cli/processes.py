"""The processes that ``torchrun`` started, and Ctrl-C: a report is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist

from ..audit.collect import collect, collect_again

__all__ = ["finish_first", "processes", "wait_for_all", "world"]


@contextmanager
def finish_first() -> Iterator[None]:
    """Ctrl-C while samples are collected ends that; a second one, or one later, waits until the
    report is written.
    """
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
        if frame.f_code in (collect.__code__, collect_again.__code__):
            return True
        frame = frame.f_back
    return False


@contextmanager
def processes() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started several."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if several:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        if several:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def wait_for_all() -> None:
    """``torchrun`` ends every process as soon as one has ended: first the report is written."""
    if world() > 1:
        dist.barrier()


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
