"""Does C-MIEI help this training? Paired runs with controls, and a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .parser import REMEDY
from .settings import overrides
from .values import function, integer, pair, refused, words

__all__ = ["add_arguments", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    what = parser.add_argument_group("what is trained").add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--train",
        metavar="MODULE:FUNCTION",
        help="your function train(attach, seed, ...): it calls attach like cmiei_hooks.attach and "
        "returns a dict of metrics",
    )
    what.add_argument(
        "--npz",
        metavar="FILE",
        help="train a small classifier on the arrays in this file; see docs/validation.md",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--views", type=words, metavar="A,B,C", help="with --npz: which arrays")
    how.add_argument(
        "--args",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="keyword argument for the training function (YAML value); may be repeated",
    )
    how.add_argument(
        "--seeds", type=_seeds, default=range(5), metavar="N", help="number of seeds (5)"
    )
    how.add_argument(
        "--first-seed", type=integer, default=0, metavar="N", help="the first seed (0)"
    )
    how.add_argument(
        "--lower", type=words, default=[], metavar="M,M", help="metrics for which lower is better"
    )
    arms = how.add_mutually_exclusive_group()
    arms.add_argument(
        "--arms",
        type=words,
        metavar="A,B,C",
        help="what is compared (plain,inert,method,random): plain and inert run in any case, and "
        "so does the arm that a control follows; see docs/validation.md for all of them",
    )
    arms.add_argument(
        "--full", action="store_true", help="all arms, and those that change one setting at a time"
    )
    how.add_argument(
        "--arm",
        type=_own_arm,
        action="append",
        default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="an arm of your own: a function make(config, noise) that returns what attach takes as "
        "strategy=; may be repeated",
    )
    how.add_argument(
        "--no-sensitivity",
        action="store_true",
        help="with --full: without those that change one setting at a time",
    )
    where = how.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="number of runs at the same time, which share the cores and the GPUs (without CUDA "
        "one for each core, at most 4; with CUDA one for each GPU)",
    )
    where.add_argument(
        "--executor",
        metavar="NAME",
        help="where the runs are executed instead: dask:tcp://host:8786 (extra [cluster]), or "
        "module:function that returns a concurrent.futures.Executor",
    )
    how.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="settings: ABS_THR 0.05 WARMUP_EPOCHS 3"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/validation"),
        metavar="DIR",
        help="directory for records and report; recorded runs are not repeated (runs/validation)",
    )


def read(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of C-MIEI, by lower-case name.

    Raises:
        UsageError: one of two options that belong together is missing.
        ConfigError: a word is not the name of a setting, or has no value.
    """
    if (args.npz is None) != (args.views is None):
        raise UsageError(
            "--npz and --views belong together",
            got="--views alone" if args.npz is None else "--npz alone",
            expected="--npz FILE --views A,B,C",
            remedy="leave --views out, or pass the file of the arrays with --npz"
            if args.npz is None
            else "name two or more arrays of the file with --views",
        )
    return overrides(args.opts)


def _jobs(text: str) -> int:
    number = integer(text)
    if number < 1:
        remedy = "leave it out for the number that suits this machine"
        raise refused("not a number of processes", text, "1 or more", remedy)
    return number


def _own_arm(text: str) -> tuple[str, str]:
    name, equals, spec = text.partition("=")
    if not (name and equals):
        remedy = f"write NAME={spec or text.removesuffix('=')}, with a name for the report"
        raise refused("an arm needs a name", text, "NAME=MODULE:FUNCTION", remedy)
    try:
        return name, function(spec)
    except argparse.ArgumentTypeError as error:
        named = str(error).replace(REMEDY, f"{REMEDY}{name}=")
        raise argparse.ArgumentTypeError(named) from None


def _seeds(text: str) -> range:
    number = integer(text)
    if not 2 <= number <= _MOST_SEEDS:
        remedy = "write 5; for other seeds add --first-seed"
        raise refused("not a number of seeds", text, f"from 2 to {_MOST_SEEDS}", remedy)
    return range(number)


_MOST_SEEDS = 10_000
