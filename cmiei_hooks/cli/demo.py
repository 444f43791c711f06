"""``cmiei demo``: train, audit, and print the table before and after."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.progress import Progress

from ..demo import comparison_table, summary_sentence
from .demo_options import DIRECTORY
from .options import make_directory

__all__ = ["fill_in", "run"]

RUNS = {"plain": False, "equalised": True}


_OF_THE_DEMO = (
    "Nothing was named, so this audits the demo's model, {}. For yours, name --model, "
    "--checkpoint, --data, --head and --splits."
)


def run(args: argparse.Namespace, request: None) -> int:
    """Train twice from one seed, audit both checkpoints, print the table before and after."""
    runs = _digit_runs()
    make_directory(args.output)
    console = Console(highlight=False)
    console.print("Handwritten digits, three views: " + ", ".join(runs.VIEWS))
    reports = {}
    for name, equalise in RUNS.items():
        console.print(f"\n[bold]{name}[/]: {runs.EPOCHS} epochs, seed {args.seed}")
        checkpoint = _train(runs, name, equalise, args.seed, args.output)
        reports[name] = runs.audit_digits(checkpoint)
        reports[name].save(args.output / name)
    console.print()
    console.print(comparison_table(reports["plain"], reports["equalised"]))
    console.print(summary_sentence(reports["plain"], reports["equalised"]), soft_wrap=True)
    console.print(f"checkpoints and reports are in {args.output}", soft_wrap=True)
    return 0


def fill_in(args: argparse.Namespace) -> None:
    """Options of ``diagnose`` for the demo's plain model, which is trained if it never was."""
    runs = _digit_runs()
    checkpoint = DIRECTORY / "plain.pth"
    console = Console(stderr=True, highlight=False)
    console.print(_OF_THE_DEMO.format(checkpoint), soft_wrap=True)
    if not checkpoint.exists():
        console.print(f"There is no {checkpoint} yet: its {runs.EPOCHS} epochs come first.")
        _train(runs, "plain", False, 0, DIRECTORY)
    args.model = "cmiei_hooks.demo.digits:make_model"
    args.data = "cmiei_hooks.demo.digits:make_test_loader"
    args.checkpoint, args.head = str(checkpoint), runs.HEAD
    args.splits, args.names = runs.SPLITS, args.names or list(runs.VIEWS)


def _digit_runs() -> ModuleType:
    from ..demo import digit_runs  # noqa: PLC0415  # needs the extra [demo]

    return digit_runs


def _train(runs: ModuleType, name: str, equalise: bool, seed: int, directory: Path) -> Path:
    path = directory / f"{name}.pth"
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"training {name}", total=runs.EPOCHS)
        runs.train_and_save(
            seed, equalise, path, done=lambda epochs: progress.update(task, completed=epochs)
        )
    return path
