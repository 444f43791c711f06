"""``cmiei validate``: make the runs that are missing, print the verdicts, write the report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..reporting import to_html, to_json, to_terminal, visible, write_files
from ..validation import Experiment, Run, in_sections, validate
from .options import make_directory

__all__ = ["run"]

_NPZ = "cmiei_hooks.validation.npz:train"
_FAILED = 1
_MOST_JOBS = 4


def run(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Run, print the verdicts, write the report; return 1 if a check failed."""
    console = Console(highlight=False)
    experiment = _experiment(args, settings)
    jobs = _default_jobs() if args.jobs is None else args.jobs
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

        report = validate(experiment, output, jobs, stage)
    report["environment"]["command"] = shlex.join(["cmiei", *args.words])
    shown = in_sections(report)
    write_files(output, {"report.json": to_json(report), "report.html": to_html(shown)})
    console.print(to_terminal(shown))
    path = visible(args.output / "report.html")
    console.print(f"report: {path}", soft_wrap=True, markup=False)
    return 0 if all(check["passed"] for check in report["checks"]) else _FAILED


def _experiment(args: argparse.Namespace, settings: dict[str, Any]) -> Experiment:
    arguments = dict(args.args)
    if args.npz is not None:
        arguments |= {"npz": args.npz, "views": args.views}
    return Experiment(
        args.train or _NPZ,
        arguments,
        settings,
        [args.first_seed + seed for seed in args.seeds],
        args.lower,
        not args.no_sensitivity,
    )


def _default_jobs() -> int:
    return 1 if torch.cuda.is_available() else min(torch.get_num_threads(), _MOST_JOBS)
