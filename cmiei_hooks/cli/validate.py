"""``cmiei validate``: make the runs that are missing, print the verdicts, write the report."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ..reporting import (
    counted,
    to_html,
    to_json,
    to_markdown,
    to_terminal,
    visible,
    write_files,
)
from ..validation import Experiment, Progress, executor_of, in_sections, validate, visible_gpus
from .options import make_directory

__all__ = ["default_jobs", "duration", "run", "shown"]

_NPZ = "cmiei_hooks.validation.npz:train"
_FAILED = 1
_MOST_JOBS = 4


def run(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Run, print the verdicts, write the report; return 1 if a check failed."""
    console = Console(highlight=False)
    experiment = _experiment(args, settings)
    output = args.output.absolute()  # now: what is imported may change the directory
    make_directory(output)
    jobs = args.jobs or (1 if args.executor else default_jobs())
    elsewhere = executor_of(args.executor) if args.executor else nullcontext()
    with (
        shown(Console(stderr=True, highlight=False), f"{args.output}{os.sep}") as show,
        elsewhere as executor,
    ):
        report = validate(experiment, output, jobs, show, executor)
    report["environment"]["command"] = shlex.join(["cmiei", *args.words])
    page = in_sections(report)
    files = {"report.json": to_json(report), "report.html": to_html(page)}
    write_files(output, {**files, "report.md": to_markdown(page)})
    console.print(to_terminal(page))
    path = visible(args.output / "report.html")
    console.print(f"report: {path}", soft_wrap=True, markup=False)
    return 0 if all(check["passed"] for check in report["checks"]) else _FAILED


def _experiment(args: argparse.Namespace, settings: dict[str, Any]) -> Experiment:
    arguments = dict(args.args)
    if args.npz is not None:
        arguments |= {"npz": args.npz, "views": args.views}
    chosen = {"arms": None} if args.full else {"arms": args.arms} if args.arms else {}
    return Experiment(
        args.train or _NPZ,
        arguments,
        settings,
        [args.first_seed + seed for seed in args.seeds],
        args.lower,
        sensitivity=not args.no_sensitivity,
        own=dict(args.arm),
        **chosen,
    )


def default_jobs() -> int:
    """A process for each GPU or, without one, for each core."""
    gpus = len(visible_gpus())
    return gpus or min(torch.get_num_threads(), _MOST_JOBS)


@contextmanager
def shown(console: Console, output: str) -> Iterator[Callable[[Progress], None]]:
    """What shows how far the runs are, and where their records go."""
    columns = (
        TextColumn("{task.fields[count]}"),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        yield _Shown(console, bar, output)


class _Shown:
    """How far the runs are: a bar in a terminal, lines elsewhere."""

    def __init__(self, console: Console, bar: Bar, output: str) -> None:
        self._console, self._bar, self._output = console, bar, output
        self._task = bar.add_task("the first run", total=None, count="")
        self._begun = self._named = False

    def __call__(self, progress: Progress) -> None:
        if not self._begun:
            self._begun, self._named = True, bool(progress.arms)
            self._print(_plan(progress, self._output))
            return
        done = f"{progress.done}/{progress.total}"
        if progress.run is None:
            self._print(_budget(progress, self._named))
            said = ""
        else:
            said = f"{progress.run.arm.name}, seed {progress.run.seed}, {_left(progress)}"
            if not self._console.is_terminal:
                self._print(f"{done}, {said}")
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.done,
            description=visible(said),
            count=done,
        )

    def _print(self, line: str) -> None:
        self._console.print(visible(line), markup=False, soft_wrap=True)


def _plan(progress: Progress, output: str) -> str:
    """What is about to run, as far as it is known before the first run."""
    runs = _runs(progress) if progress.arms else f"all arms, {counted(progress.seeds, 'seed')}"
    return f"{runs}, recorded in {output}; the first run shows how long all take"


def _runs(progress: Progress) -> str:
    arms = ", ".join(progress.arms)
    return f"{counted(progress.total, 'run')} ({arms}; {counted(progress.seeds, 'seed')})"


def _budget(progress: Progress, named: bool) -> str:
    """How long all take, and which runs these are unless they were named before."""
    line = counted(progress.total, "run") if named else _runs(progress)
    if progress.done == progress.total:
        return f"{line}, all recorded"
    of_these = f", {progress.done} of them are done" if progress.done > 1 else ""
    return f"{line}{of_these}, about {duration(progress.seconds)} at the speed of the first"


def _left(progress: Progress) -> str:
    return f"{duration(progress.seconds)} left" if progress.done < progress.total else "all done"


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(280)
        '4 min 40 s'
    """
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
