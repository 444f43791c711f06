"""Train digits in three views without and with C-MIEI, and compare the two models."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..auditing import AuditReport, Interval, Setting, audit_checkpoint
from ..errors import CMIEIError
from ..fusion import locate
from ..settings import Config
from .diagnose import make_directory

__all__ = ["add_arguments", "fill_in", "run"]

DIRECTORY = Path("runs/demo")
RUNS = {"plain": False, "equalised": True}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--seed", type=int, default=0, help="of both trainings (0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help=f"where checkpoints and reports go ({DIRECTORY})",
    )


def run(args: argparse.Namespace) -> int:
    """Train twice from one seed, audit both checkpoints, print the table before and after."""
    training = _training()
    make_directory(args.output)
    console = Console(highlight=False)
    console.print("Handwritten digits, three views: " + ", ".join(training.digits.VIEWS))
    reports = {}
    for name, equalise in RUNS.items():
        console.print(f"\n[bold]{name}[/]: {training.EPOCHS} epochs, seed {args.seed}")
        checkpoint = _train(name, equalise, args.seed, args.output)
        reports[name] = _audit(training, checkpoint)
        reports[name].save(args.output / name)
    console.print()
    console.print(comparison(reports["plain"], reports["equalised"]))
    console.print(summary(reports["plain"], reports["equalised"]), soft_wrap=True)
    console.print(f"checkpoints and reports are in {args.output}", soft_wrap=True)
    return 0


def fill_in(args: argparse.Namespace) -> None:
    """Options of ``diagnose`` for the demo's plain model, which is trained if it never was."""
    training = _training()
    checkpoint = DIRECTORY / "plain.pth"
    if not checkpoint.exists():
        Console(stderr=True).print(f"no {checkpoint} yet: training the demo's model first")
        _train("plain", False, 0, DIRECTORY)
    args.model = "cmiei_hooks.demo.digits:make_model"
    args.data = "cmiei_hooks.demo.digits:make_test_loader"
    args.checkpoint, args.head = str(checkpoint), "classifier"
    args.splits, args.names = training.SPLITS, args.names or list(training.digits.VIEWS)


def _training() -> ModuleType:
    try:
        from ..demo import training  # noqa: PLC0415  # needs the extra [demo]
    except ModuleNotFoundError as error:
        raise CMIEIError(
            "the demo needs scikit-learn for its data",
            got=str(error),
            expected="the extra [demo]",
            remedy="pip install 'cmiei-hooks[demo]'",
        ) from error
    return training


def _train(name: str, equalise: bool, seed: int, directory: Path) -> Path:
    training = _training()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"training {name}", total=training.EPOCHS)
        # One thread: the model is tiny, and its sums then have the same order on every machine.
        with _one_thread():
            for done, trained in training.train(seed, equalise):
                progress.update(task, completed=done)
                model = trained
    path = directory / f"{name}.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return path


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _audit(training: ModuleType, checkpoint: Path) -> AuditReport:
    model = training.digits.make_model()
    config = Config(head="classifier", splits=training.SPLITS, names=training.digits.VIEWS)
    batches = training.digits.make_test_loader()
    head = locate(model, config)
    report, found = audit_checkpoint(model, str(checkpoint), batches, head, config, Setting())
    if report is None or found.error is not None:
        raise found.error or RuntimeError("nothing was measured")
    return report


def summary(plain: AuditReport, equalised: AuditReport) -> str:
    """What the table says of the view that dominated, in one line."""
    before, after = _means(plain.influence), _means(equalised.influence)
    view = max(before, key=lambda name: before[name])
    one, other = (_means(r.accuracy_without or {}) for r in (plain, equalised))
    complete = _mean(equalised.accuracy) - _mean(plain.accuracy)
    return (
        f"dominant view {view}: CI {after[view] / before[view] - 1:+.0%}, accuracy without it "
        f"{100 * (other[view] - one[view]):+.2f} points, complete accuracy {100 * complete:+.2f} "
        "points (one seed)"
    )


def _mean(interval: Interval | None) -> float:
    return math.nan if interval is None else interval.mean


def _means(figures: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.mean for name, interval in figures.items()}


def comparison(plain: AuditReport, equalised: AuditReport) -> Table:
    """Accuracy, accuracy without each view, CI and Hist, before and after."""
    table = Table(
        title=f"Without and with C-MIEI, {plain.n_samples} test digits", title_justify="left"
    )
    for header in ("", "plain", "with C-MIEI", "change"):
        table.add_column(header, justify="right" if header else "left")

    def row(name: str, before: float, after: float, scale: float, digits: int) -> None:
        old, new = before * scale, after * scale
        table.add_row(name, *(f"{v:.{digits}f}" for v in (old, new)), f"{new - old:+.{digits}f}")

    def rows(title: str, before: dict[str, float], after: dict[str, float], *style: int) -> None:
        table.add_section()
        for name, value in before.items():
            row(f"{title} {name}", value, after[name], *style)

    row("accuracy %", _mean(plain.accuracy), _mean(equalised.accuracy), 100, 2)
    for title, figure, scale, digits in (
        ("accuracy % without", "accuracy_without", 100, 2),
        ("CI (nats)", "influence", 1, 4),
        ("Hist %", "dominance", 100, 1),
    ):
        before, after = (_means(getattr(r, figure) or {}) for r in (plain, equalised))
        rows(title, before, after, scale, digits)
    return table
