"""Does C-MIEI help this training? Paired runs with controls, and a report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import ConfigError
from ..reporting import to_html, to_json, to_terminal, visible, write_files
from ..validation import Experiment, Run, in_sections, validate
from .options import integer, make_directory, overrides, pair, words

__all__ = ["add_arguments", "run"]

_NPZ = "cmiei_hooks.validation.npz:train"
_FAILED = 1


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
    how.add_argument(
        "--no-sensitivity",
        action="store_true",
        help="skip the runs that change one setting at a time",
    )
    how.add_argument(
        "--jobs",
        type=integer,
        default=1 if torch.cuda.is_available() else min(torch.get_num_threads(), 4),
        metavar="N",
        help="number of runs at the same time, which share the cores (without CUDA one for each "
        "core, at most 4; with CUDA 1)",
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


def run(args: argparse.Namespace) -> int:
    """Run, print the verdicts, write the report; return 1 if a check failed."""
    console = Console(highlight=False)
    experiment = _experiment(args)
    output = args.output.absolute()  # now: what is imported may change the directory
    make_directory(output)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:

        def stage(total: int) -> Callable[[Run], None]:
            task = progress.add_task("runs", total=total)

            def done(one: Run) -> None:
                description = f"{one.arm.name}, seed {one.seed}"
                progress.update(task, advance=1, description=description)
                if not errors.is_terminal:
                    errors.print(description, highlight=False)

            return done

        report = validate(experiment, output, args.jobs, stage)
    report["environment"]["command"] = shlex.join(["cmiei", *args.words])
    shown = in_sections(report)
    write_files(output, {"report.json": to_json(report), "report.html": to_html(shown)})
    console.print(to_terminal(shown))
    path = visible(args.output / "report.html")
    console.print(f"report: {path}", soft_wrap=True, markup=False)
    return 0 if all(check["passed"] for check in report["checks"]) else _FAILED


def _experiment(args: argparse.Namespace) -> Experiment:
    if (args.npz is None) != (args.views is None):
        raise argparse.ArgumentError(None, "--npz and --views must be given together")
    arguments = dict(args.args)
    if args.npz is not None:
        arguments |= {"npz": args.npz, "views": args.views}
    if args.jobs < 1:
        raise argparse.ArgumentError(None, f"--jobs {args.jobs}: must be 1 or more")
    try:
        settings = overrides(args.opts)
    except ConfigError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    return Experiment(
        args.train or _NPZ,
        arguments,
        settings,
        [args.first_seed + seed for seed in args.seeds],
        args.lower,
        not args.no_sensitivity,
    )


def _seeds(text: str) -> range:
    number = integer(text)
    if not 2 <= number <= _MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to {_MOST_SEEDS}")
    return range(number)


_MOST_SEEDS = 10_000
