"""The console of the commands: what it cannot print does not change the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from rich.console import Console

__all__ = ["Output"]


class Output(Console):
    """Standard output that may be closed, full, or a pipe whose reader has gone (``| head``).

    Reports are on disk before they are printed. So a command then goes on without printing, and
    ends with the exit code that it would have had.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, and flushed: errors come here and not when the program ends."""
        if getattr(sys.stdout, "closed", False):
            return
        try:
            super().print(*objects, **options)
            self.file.flush()
        except (OSError, SystemExit):  # the latter is rich's way to report a closed pipe
            self.quiet = True
            with contextlib.suppress(OSError, ValueError, AttributeError):  # None, or not a file
                # Python writes what is left in the buffer when it ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
