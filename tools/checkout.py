"""Run a command of this checkout from anywhere, without installation."""

import sys
from pathlib import Path
from typing import NoReturn


def run(command: str) -> NoReturn:
    """Run ``cmiei <command>`` with the arguments of this process, and exit with its code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from cmiei_hooks.cli import main  # noqa: PLC0415  # the checkout must be importable first

    sys.exit(main([command, *sys.argv[1:]]))
