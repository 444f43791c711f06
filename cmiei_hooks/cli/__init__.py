"""The command ``cmiei`` and what ``tools/*.py`` call: one module for each subcommand."""

from .main import main

__all__ = ["main"]
