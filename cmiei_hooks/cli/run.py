"""``cmiei run``: run a training script, and observe how its model uses the modalities."""

from __future__ import annotations

import argparse

from ..running import Options, Program, discover_in, observe
from .options import make_directory

__all__ = ["run"]


def run(args: argparse.Namespace, request: tuple[Program, Options | None]) -> int:
    """Run the program; returns its exit code.

    Raises:
        CMIEIError: the output directory cannot be made, or ``--discover`` finds no training.
    """
    program, options = request
    if options is None:
        return discover_in(program)
    if options.directory is not None:
        make_directory(options.directory)
    return observe(program, options)
