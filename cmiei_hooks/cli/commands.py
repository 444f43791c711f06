"""``cmiei <command>``: parse, run, and turn every refusal into a message and an exit code.

Help and wrong command lines are answered without torch, which takes seconds to import: a command
has its options in one module, and what it does in another.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType

from rich.console import Console

from .._version import __version__
from ..errors import CMIEIError
from ..reporting import readers_may_leave
from . import demo_options, diagnose_options, run_options, validate_options

__all__ = ["main"]

USAGE, UNMEASURABLE, INTERRUPTED = 2, 3, 130
"""Exit codes; 0 is success, 1 a closed gate, and 2 also what argparse uses."""

_OPTIONS: dict[str, ModuleType] = {
    "diagnose": diagnose_options,
    "demo": demo_options,
    "run": run_options,
    "validate": validate_options,
}
"""The commands. The module of the same name has ``run(args, read(args))``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done. 1: a gate is closed. 2: the command line is wrong. 3: the model, checkpoint, data or
    head cannot be measured. 130: interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    own, program = run_options.split_program(words)
    try:
        # A program that is run has the streams that Python gives it.
        with nullcontext() if program else readers_may_leave():
            return _run(words, own, program)
    except CMIEIError as error:  # nobody may see it: stdout is full
        _say("", error)
        return UNMEASURABLE
    except KeyboardInterrupt:  # while something was being said
        return INTERRUPTED


def _run(words: list[str], own: list[str], program: list[str]) -> int:
    command = ""
    try:
        args = _parser().parse_args(own)
        command = args.command
        args.words, args.program = words, program  # words: the command in the report
        request = _OPTIONS[command].read(args)
        code: int = import_module(f".{command}", __package__).run(args, request)
        return code
    except CMIEIError as error:
        _say(command, error)
        return UNMEASURABLE
    except argparse.ArgumentError as error:
        _say(command, error)
        return USAGE
    except KeyboardInterrupt:
        _say(command, "interrupted")
        return INTERRUPTED
    except SystemExit as error:  # of the user's code: its exit code would look like one of ours
        if not command:  # of argparse: usage, or --help
            raise
        _say(command, f"the code called sys.exit({error.code!r})")
        return UNMEASURABLE
    except Exception as error:  # of the user's code; Python's own exit code, 1, looks like a gate
        traceback.print_exc()
        if not hasattr(error, "add_note"):  # Python 3.10 does not print them
            _say(command, "\n".join(getattr(error, "__notes__", ())))
        return UNMEASURABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cmiei",
        description="Measure and equalise how much a multimodal model depends on each modality.",
    )
    parser.add_argument("--version", action="version", version=f"cmiei {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _OPTIONS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    return parser


def _say(command: str, what: object) -> None:
    """One message on stderr."""
    name = f"cmiei {command}".rstrip()
    Console(stderr=True, highlight=False).print(f"{name}: {what}", markup=False, soft_wrap=True)
