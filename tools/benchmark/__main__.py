"""Measure what C-MIEI costs on this machine: ``python -m tools.benchmark``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from .audit import backbone_and_audit, backbone_and_hook, head_and_audit
from .head import Functions, Shape, between_estimates, steps, training, with_differences
from .memory import peak_memory
from .parts import parts
from .plot import plot
from .timing import Timing, in_turns

_LINEAR = tuple(Shape(b, 512, c) for b, c in ((64, 171), (64, 1000), (256, 10_000), (64, 100_000)))
_MLP = Shape(64, 512, 1000, hidden=512)
_ROUNDED = tuple(replace(shape, autocast=True) for shape in _LINEAR[:3])
_GROWING = (
    *(Shape(64, width, 1000) for width in (128, 2048)),
    *(Shape(64, 512, 1000, modalities) for modalities in (2, 6)),
    Shape(512, 512, 1000),
)
"""(64, 3x512, 1000) with one number changed at a time: width, modalities, batch."""
_CALLS = 1000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--rounds", type=int, default=7, help="number of times each is timed (7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also plot what steps add (SVG)")
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error("--rounds must be 2 or more: one has no quartiles")
    return args


def main() -> None:
    """Time everything in turns and print medians, quartiles and ratios; then print the memory."""
    args = _arguments()
    device, console = torch.device(args.device), Console()
    times = Table(title=f"Times on {device}, {torch.get_num_threads()} threads")
    for header in ("", "what", "median ms", "quartiles", "ratio"):
        times.add_column(header)
    results: dict[str, Any] = {}
    for row, make in _rows(device).items():
        timings = with_differences(in_turns(make(), args.rounds, device))
        base = next(iter(timings.values()))
        results[row] = {
            name: {
                "median_s": timing.median,
                "quartiles_s": [timing.quartiles[0], timing.quartiles[2]],
                "ratio": timing.times(base),
            }
            for name, timing in timings.items()
        }
        for name, timing in timings.items():
            label = row if timing is base else ""
            times.add_row(label, name, *_shown(timing), f"{timing.times(base):.3f}")
    console.print(times)
    memory = Table(title="Extra memory of one estimate, in units of the logits of the batch")
    for header in ("head", "the hook's estimate", "the head run again"):
        memory.add_column(header)
    for shape in (*_LINEAR, _MLP):
        peaks = [peak_memory(shape, general, device) for general in (False, True)]
        results[f"memory {shape}"] = dict(zip(("hook", "general"), peaks, strict=True))
        memory.add_row(str(shape), *("unknown" if p is None else f"{p:.2f}" for p in peaks))
    console.print(memory)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.plot is not None:
        shown = {str(shape): results[f"step {shape}"] for shape in (*_LINEAR, _MLP)}
        args.plot.write_text(plot(shown), encoding="utf-8")


def _rows(device: torch.device) -> dict[str, Callable[[], Functions]]:
    transformer = "transformer, batch 16"
    return {
        **{f"step {s}": partial(steps, s, device) for s in (*_LINEAR, _MLP, *_ROUNDED, *_GROWING)},
        **{f"parts {s}": partial(parts, s, device) for s in _LINEAR[:3]},
        **{f"training {s}": partial(training, s, device) for s in (*_LINEAR, _MLP)},
        f"training {transformer}": partial(backbone_and_hook, 16, 171, device),
        f"{_CALLS} calls between estimates": partial(between_estimates, _CALLS),
        **{
            f"audit {transformer}, {c} classes": partial(backbone_and_audit, 16, c, device)
            for c in (171, 1000)
        },
        **{f"audit {s}": partial(head_and_audit, s, device) for s in _LINEAR[1:3]},
    }


def _shown(timing: Timing) -> tuple[str, str]:
    low, median, high = (f"{1e3 * seconds:.3f}" for seconds in timing.quartiles)
    return median, f"{low} to {high}"


if __name__ == "__main__":
    main()
