"""Measure on this machine what the tool costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ..benchmark.audit import backbone_and_audit, head_and_audit
from ..benchmark.head import estimates
from ..benchmark.timing import Timing, in_turns

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--device", default="cpu", help="where to run: cpu, cuda")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed (15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    """Time everything in turns, print medians, quartiles and ratios."""
    device = torch.device(args.device)
    shapes = ((64, 512, 171), (64, 512, 1000), (256, 512, 10_000), (64, 512, 100_000))
    rows: dict[str, Callable[[], dict[str, Callable[[], object]]]] = {
        **{
            f"estimate ({b}, 3x{w}, {c})": partial(estimates, b, w, c, device) for b, w, c in shapes
        },
        "transformer, batch 16, 171 classes": partial(backbone_and_audit, 16, 171, device),
        "transformer, batch 16, 1000 classes": partial(backbone_and_audit, 16, 1000, device),
        "head alone (64, 3x512, 1000)": partial(head_and_audit, 64, 512, 1000, device),
        "head alone (256, 3x512, 10000)": partial(head_and_audit, 256, 512, 10_000, device),
    }
    console = Console()
    table = Table(title=f"Times on {device}, {torch.get_num_threads()} threads")
    for header in ("", "what", "median ms", "quartiles", "ratio"):
        table.add_column(header)
    figures: dict[str, Any] = {}
    for row, make in rows.items():
        timings = in_turns(make(), args.rounds, device)
        base = next(iter(timings.values()))
        figures[row] = {
            name: {"median_s": timing.median, "ratio": timing.times(base)}
            for name, timing in timings.items()
        }
        for name, timing in timings.items():
            label = row if timing is base else ""
            table.add_row(label, name, *_shown(timing), f"{timing.times(base):.3f}")
    console.print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _shown(timing: Timing) -> tuple[str, str]:
    return f"{1e3 * timing.median:.1f}", f"{1e3 * timing.low:.1f} to {1e3 * timing.high:.1f}"
