"""A training script that nobody edits, run as Python would run it, with C-MIEI attached.

A hook on all modules finds the model in its first training call.
"""

from .api import Options, discover_in, observe
from .program import Program

__all__ = [
    "Options",
    "Program",
    "discover_in",
    "observe",
]
