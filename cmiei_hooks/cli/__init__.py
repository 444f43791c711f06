"""The command ``cmiei``: one module for each subcommand, which parses, calls and prints.

What a command does is in the rooms below.
"""

from .commands import main

__all__ = [
    "main",
]
