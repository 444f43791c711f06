"""Train digits in three views without and with C-MIEI, and compare the two models."""

from __future__ import annotations

import argparse
from pathlib import Path

from .values import integer

__all__ = ["DIRECTORY", "add_arguments", "read"]

DIRECTORY = Path("runs/demo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--seed", type=integer, default=0, help="seed of both trainings (0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help=f"where checkpoints and reports go ({DIRECTORY})",
    )


def read(args: argparse.Namespace) -> None:
    """Nothing more: every option is checked where it is parsed."""
