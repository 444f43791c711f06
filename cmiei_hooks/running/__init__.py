"""A training script that nobody edits, run as Python would run it, with C-MIEI attached.

A hook on all modules finds the model in its first training call.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy
from .options import Options
from .program import Program

if TYPE_CHECKING:
    from .api import discover_in, observe
else:  # the command line refuses a program and its options before torch is imported
    __getattr__, __dir__ = lazy(__name__, {"discover_in": "api", "observe": "api"})

__all__ = [
    "Options",
    "Program",
    "discover_in",
    "observe",
]
