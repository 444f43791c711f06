"""``cmiei <command>``: parse, run, and turn every refusal into a message and an exit code."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from rich.console import Console

from ..errors import CMIEIError
from . import demo, diagnose, run, validate

__all__ = ["main"]

USAGE, UNMEASURABLE, INTERRUPTED = 2, 3, 130
"""Exit codes; 0 is success, 1 a closed gate, and 2 also what argparse uses."""

_COMMANDS: dict[str, ModuleType] = {
    "diagnose": diagnose,
    "demo": demo,
    "run": run,
    "validate": validate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done. 1: a gate is closed. 2: the command line is wrong. 3: the model, checkpoint, data or
    head cannot be measured. 130: interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="cmiei",
        description="Measure and equalise how much a multimodal model depends on each modality.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    words = list(sys.argv[1:] if argv is None else argv)
    own, program = run.split_program(words)
    args = parser.parse_args(own)
    args.words, args.program = words, program  # words: the command in the report
    errors = Console(stderr=True, highlight=False)
    try:
        code: int = _COMMANDS[args.command].run(args)
        return code
    except CMIEIError as error:
        errors.print(f"cmiei {args.command}: {error}", markup=False, soft_wrap=True)
        return UNMEASURABLE
    except argparse.ArgumentError as error:
        errors.print(f"cmiei {args.command}: {error}", markup=False, soft_wrap=True)
        return USAGE
    except KeyboardInterrupt:
        errors.print(f"cmiei {args.command}: interrupted", markup=False)
        return INTERRUPTED
    except SystemExit as error:  # of the user's code: its exit code would look like one of ours
        errors.print(
            f"cmiei {args.command}: the code called sys.exit({error.code!r})", markup=False
        )
        return UNMEASURABLE
    except Exception:  # of the user's code; Python's own exit code, 1, would look like a gate
        traceback.print_exc()
        return UNMEASURABLE
