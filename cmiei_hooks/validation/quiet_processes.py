"""Worker processes that Ctrl-C does not reach: whoever started them ends them, without a word."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess

__all__ = ["QuietContext"]


class _QuietProcess(SpawnProcess):
    """Inherits a mask in which Ctrl-C is blocked; so do the processes that it starts itself.

    A terminal sends Ctrl-C to all processes, and each would show a traceback of its own.
    """

    def start(self) -> None:
        """As of any process."""
        if not hasattr(signal, "pthread_sigmask"):  # on Windows
            super().start()
            return
        resource_tracker.ensure_running()  # it would lift the mask while it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class QuietContext(SpawnContext):
    """The context of ``multiprocessing`` that starts such processes."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[_QuietProcess] = []

    def Process(self, *args: object, **kwargs: object) -> _QuietProcess:  # type: ignore[override]  # noqa: N802  # a class in multiprocessing
        """A process that ``end`` knows."""
        process = _QuietProcess(*args, **kwargs)  # type: ignore[arg-type]  # handed on
        self._started.append(process)
        return process

    def end(self) -> None:
        """End the processes now, in the middle of what they do."""
        for process in self._started:
            if process.is_alive():
                process.terminate()
