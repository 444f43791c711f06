"""The command ``cmiei``: one module for each subcommand, which parses, calls and prints.

What a command does is in the rooms below. Nothing is imported before ``main`` is called, so that
Ctrl-C is quiet even then.
"""

import sys
from collections.abc import Sequence
from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal
from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .commands import build_parser
else:
    __getattr__, __dir__ = lazy(__name__, {"build_parser": "commands"})

__all__ = [
    "build_parser",
    "main",
]

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done. 1: a gate is closed, or a check said no. 2: the command line is wrong. 3: the model,
    checkpoint, data or head cannot be measured. 130: interrupted.
    """
    try:
        from .commands import run_command  # noqa: PLC0415  # see above

        code = run_command(argv)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        # After a KeyboardInterrupt in exec() of a text, as in the making of a dataclass, CPython
        # remembers to end by the signal, until another text is executed.
        exec("")
    program = "run" in sys.argv[1:2]  # Ctrl-C is its own affair until the end
    if argv is None and not program and getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)  # while Python ends, an exception would be shown
    return code
