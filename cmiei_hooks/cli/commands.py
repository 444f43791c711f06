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
from typing import Any

from rich.console import Console

from .._version import __version__
from ..errors import CMIEIError, UsageError
from ..reporting import readers_may_leave
from . import (
    compare_options,
    demo_options,
    diagnose_options,
    discover_options,
    run_options,
    validate_options,
    verify_options,
)
from .interruptions import Interruptions
from .mistakes import refuse_unknown_command, what_was_meant
from .parser import Parser

__all__ = ["build_parser", "run_command"]

USAGE, UNMEASURABLE, INTERRUPTED = 2, 3, 130
"""Exit codes; 0 is success, 1 a closed gate."""

_OPTIONS: dict[str, ModuleType] = {
    "diagnose": diagnose_options,
    "compare": compare_options,
    "discover": discover_options,
    "verify": verify_options,
    "demo": demo_options,
    "run": run_options,
    "validate": validate_options,
}
"""The commands. The module of the same name has ``run(args, read(args))``."""


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one command, as ``main`` does, which also handles Ctrl-C.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed while a message was printed.
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


def _run(words: list[str], own: list[str], program: list[str]) -> int:
    name = own[0] if own and own[0] in _OPTIONS else ""
    try:
        return _execute(*_read(own, words, program))
    except UsageError as error:
        _say(name, error)
        return USAGE
    except CMIEIError as error:
        _say(name, error)
        return UNMEASURABLE
    except KeyboardInterrupt:
        _say(name, "interrupted")
        return INTERRUPTED


def build_parser() -> Parser:
    """The parser of the command line, with a subparser for each command; torch is not imported."""
    parser = Parser(
        prog="cmiei",
        description="Measure and equalise how much a multimodal model depends on each modality.",
    )
    parser.add_argument("--version", action="version", version=f"cmiei {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _OPTIONS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    return parser


def _parsers(parser: Parser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def _read(own: list[str], words: list[str], program: list[str]) -> tuple[argparse.Namespace, Any]:
    """The arguments of a command, and what it reads from them; argparse exits after ``--help``.

    Raises:
        UsageError: the command line is wrong.
    """
    parser = build_parser()
    if not own:
        raise UsageError(f"which command?\n\n{parser.format_help()}".rstrip())
    parsers = _parsers(parser)
    refuse_unknown_command(own, parsers)
    try:
        args, rest = parser.parse_known_args(own)
        if rest:
            raise UsageError(
                "the settings stand in several places",
                got=f"{' '.join(rest)[:200]} apart from the others",
                expected="all pairs KEY VALUE together",
                remedy="write all of them at the end of the line",
            )
        args.words, args.program = words, program  # words: the command in the report
        return args, _OPTIONS[args.command].read(args)
    except CMIEIError as error:
        parts = {"got": error.got, "expected": error.expected, "remedy": error.remedy}
        raise what_was_meant(own, parsers) or UsageError(error.problem, **parts) from None


def _execute(args: argparse.Namespace, request: Any) -> int:
    """Run the command; what the user's code raises becomes an exit code."""
    name = args.command
    try:
        with Interruptions(f"cmiei {name}: interrupted") as interruptions:
            with interruptions.ending_the_process():
                command = import_module(f".{name}", __package__)
            if args.program:
                interruptions.left_to_python()
            code: int = command.run(args, request)
            return code
    except CMIEIError:
        raise
    except SystemExit as error:  # its exit code would look like one of ours
        _say(name, _left(error))
    except Exception as error:  # Python's own exit code, 1, looks like a gate
        traceback.print_exc()
        if not hasattr(error, "add_note"):  # Python 3.10 does not print them
            _say(name, "\n".join(getattr(error, "__notes__", ())))
    return UNMEASURABLE


def _left(error: SystemExit) -> CMIEIError:
    return CMIEIError(
        f"the code called sys.exit({error.code!r})",
        got="an end of the process, in a function that this command calls",
        expected="a function that returns, or raises an error",
        remedy="leave sys.exit() to the script's own main",
    )


def _say(command: str, what: object) -> None:
    """One message on stderr."""
    name = f"cmiei {command}".rstrip()
    Console(stderr=True, highlight=False).print(f"{name}: {what}", markup=False, soft_wrap=True)
