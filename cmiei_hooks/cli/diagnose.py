"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from ..auditing import (
    AuditReport,
    Columns,
    audit_checkpoints,
    call_function,
    checkpoints_in,
    device_of,
    finish_first,
    load_checkpoint,
    read_batch,
    seed_everything,
    violations,
)
from ..discovery import discover
from ..distributed import joined, rank, wait_for_all
from ..errors import CheckpointError, CMIEIError, InputError
from ..fusion import Head, locate, refuse_both
from ..reporting import visible
from ..settings import Config
from .options import add_arguments, configuration

__all__ = ["GATE", "add_arguments", "make_directory", "run"]

GATE = 1
"""Exit code of a report that a gate does not let through."""


def run(args: argparse.Namespace) -> int:
    """Audit, print the table, write the report; returns 0, or 1 if a gate closes.

    Raises:
        argparse.ArgumentError: some of the options that belong together are missing.
        CMIEIError: the model, checkpoint, data or head cannot be measured.
        KeyboardInterrupt: interrupted; a partial report was written if there was anything.
    """
    config = _complete(args)
    refuse_both(args.splits, args.modalities)
    with joined():
        seed_everything(config.seed or 0)
        model = _model(args)
        if args.discover:
            _discover(args, model)
            return 0
        where = locate(model, config, modalities=args.modalities, dim=args.dim, output=args.logits)
        _check_gates(args, where)
        for path in (args.output, *_parent(args.save_features)):
            make_directory(path)
        with finish_first():
            report, error = audit_checkpoints(args, model, where, config)
            try:
                if rank() == 0 and report is not None:
                    _show(args, report)
            finally:
                wait_for_all()
        if error is not None:
            raise error
        if report is None or not report.n_samples:
            raise InputError(
                "there is nothing to report",
                got="no sample with finite logits",
                expected="one or more",
                remedy="check the checkpoint and the data: every logit was NaN or infinite",
            )
        closed = violations(report, dict(args.fail_above), args.fail_share)
        for line in closed if rank() == 0 else ():
            Console(stderr=True).print(f"cmiei diagnose: {line}", markup=False, soft_wrap=True)
        wait_for_all()
    return GATE if closed else 0


def _show(args: argparse.Namespace, report: AuditReport) -> None:
    console = Console(highlight=False)
    console.print(report.table())
    path = report.save(args.output)
    written = visible(f"{path.parent}{os.sep}")
    console.print(f"written to {written}", soft_wrap=True, markup=False)
    sys.stdout.flush()


def _parent(file: str | None) -> list[Path]:
    return [] if file is None else [Path(file).parent]


def _complete(args: argparse.Namespace) -> Config:
    """The settings; what is missing is refused, or is that of the demo if nothing is given."""
    nothing = not any((args.model, args.checkpoint, args.data, args.head, args.config))
    if nothing and not args.discover:
        from . import demo  # noqa: PLC0415  # demo imports this module

        demo.fill_in(args)
    try:
        config = configuration(args)
    except CMIEIError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    needed = {"model": args.model}
    if not args.features:
        needed["data"] = args.data
    if not args.discover:
        needed |= {"checkpoint": args.checkpoint, "head": config.head}
        needed["splits"] = config.splits or args.modalities
    missing = [f"--{name}" for name, value in needed.items() if value is None]
    if missing:
        splits = " (or --modalities)" if "--splits" in missing else ""
        raise argparse.ArgumentError(None, f"missing {', '.join(missing)}{splits}")
    return config


def _model(args: argparse.Namespace) -> nn.Module:
    model = call_function(args.model, **dict(args.model_args))
    if not isinstance(model, nn.Module):
        raise CheckpointError(
            f"{args.model} does not return a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="return the model, without the optimizer and the like",
        )
    device = args.device
    if device == "auto":
        local = os.environ.get("LOCAL_RANK", "0")
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's various ways
        raise CheckpointError(
            f"the model cannot be moved to {device!r}",
            got=str(error).splitlines()[0],
            expected="a device of this machine, such as cpu or cuda",
            remedy="leave --device out",
        ) from error


def _check_gates(args: argparse.Namespace, head: Head) -> None:
    unknown = [name for name, _ in args.fail_above if name not in head.partition.names]
    if unknown:
        raise argparse.ArgumentError(
            None,
            f"--fail-above: no modality {unknown[0]!r} (there are "
            f"{', '.join(head.partition.names)})",
        )


def _discover(args: argparse.Namespace, model: nn.Module) -> None:
    """Print the heads of the model, with the first batch as its input."""
    if args.forward is not None:
        raise argparse.ArgumentError(None, "--discover calls the model itself, without --forward")
    if args.checkpoint is not None:
        load_checkpoint(model, checkpoints_in(args.checkpoint)[-1], ())
    batches, device = call_function(args.data), device_of(model)
    for given in batches if isinstance(batches, Iterable) else ():
        inputs, keywords = read_batch(model, given, device, Columns(), checked=True).call
        discover(model, *((keywords,) if keywords else inputs))
        return
    raise InputError(
        "there is no batch to run the model with",
        got=type(batches).__name__,
        expected="batches, such as a DataLoader",
        remedy="return a list or a loader that yields at least one",
    )


def make_directory(path: str | Path) -> None:
    """Make the directory of the output before there is anything to lose.

    Raises:
        CMIEIError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CMIEIError(
            f"the output directory {path} cannot be made",
            got=str(error),
            expected="a directory that can be written into",
            remedy="pass another one with --output",
        ) from error
