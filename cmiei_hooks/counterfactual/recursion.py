"""Refuse heads that call themselves, or the model: each estimate would start another one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import HeadError
from ..fusion import Head

__all__ = ["refuse_recursion", "running"]


class _Running(threading.local):
    def __init__(self) -> None:
        self.heads: list[int] = []
        """The identities of the modules that are being run again in this thread."""


_running = _Running()


@contextmanager
def running(head: Head) -> Iterator[None]:
    """Inside, the head is being run again.

    Raises:
        HeadError: it is already.
    """
    refuse_recursion(head)
    _running.heads.append(id(head.first))
    try:
        yield
    finally:
        _running.heads.pop()


def refuse_recursion(head: Head) -> None:
    """Refuse a call of the head from inside its own re-run; hooks on the head call this.

    Raises:
        HeadError: the head calls itself, or the model.
    """
    heads = _running.heads
    if heads and id(head.first) in heads:
        raise HeadError(
            f"the head {head.name!r} calls itself, or calls the model",
            got=f"a call of {type(head.first).__name__} from its own forward",
            expected="a head whose forward does not call it again",
            remedy="name a module inside of it that does not, or a module that contains it",
        )
