"""``cmiei diagnose``: audit checkpoints, print and write the report, or print the heads."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from torch import nn

from ..auditing import (
    AuditOptions,
    AuditReport,
    Columns,
    audit_checkpoints,
    call_function,
    checkpoints_in,
    device_of,
    finish_first,
    import_function,
    load_checkpoint,
    make_model,
    read_batch,
    seed_everything,
    violations,
)
from ..discovery import Grouping, call_in, discover_in_call
from ..distributed import joined, rank, wait_for_all
from ..errors import InputError
from ..fusion import Head, eval_mode, locate, training_branch
from ..reporting import visible
from ..settings import Config
from .demo import fill_in
from .options import configuration, make_directory

__all__ = ["GATE", "run"]

GATE = 1
"""Exit code of a report that a gate does not let through."""


def run(args: argparse.Namespace, config: Config) -> int:
    """Audit, write the report, print the tables; returns 0, or 1 if a gate closes.

    Raises:
        argparse.ArgumentError: some of the options do not go together.
        CMIEIError: the model, checkpoint, data or head cannot be measured.
        KeyboardInterrupt: interrupted; a partial report was written if there was anything.
    """
    if args.model is None:  # nothing was given
        fill_in(args)
        config = configuration(args)
    with joined():
        seed_everything(config.seed or 0)
        model = make_model(args.model, dict(args.model_args), args.device)
        if args.discover:
            _discover(args, model)
            return 0
        head = locate(
            model,
            config,
            modalities=args.modalities,
            dim=args.dim,
            output=args.logits,
            combine=import_function(args.combine) if ":" in (args.combine or "") else None,
        )
        _check_gates(args, head)
        checkpoints = checkpoints_in(args.checkpoint)
        if len(checkpoints) > 1 and (args.features or args.save_features):
            raise argparse.ArgumentError(
                None, "--features and --save-features are for one checkpoint"
            )
        for path in (args.output, *_parent(args.save_features)):
            make_directory(path)
        options = _options(args, config)
        with finish_first():
            outcome = audit_checkpoints(
                model, lambda: call_function(args.data), head, config, options, checkpoints
            )
            try:
                if rank() == 0 and outcome.report is not None:
                    _save_and_print(args, outcome.report)
            finally:
                wait_for_all()
        report = outcome.complete()
        if not report.n_samples:
            raise InputError(
                "there is nothing to report",
                got="no sample with finite logits",
                expected="one or more samples with finite logits",
                remedy="check the checkpoint and the data: every logit was NaN or infinite",
            )
        closed = violations(report, dict(args.fail_above), args.fail_share)
        for line in closed if rank() == 0 else ():
            Console(stderr=True).print(f"cmiei diagnose: {line}", markup=False, soft_wrap=True)
        wait_for_all()
    return GATE if closed else 0


def _columns(args: argparse.Namespace) -> Columns:
    return Columns(args.labels, args.group_by, args.inputs)


def _options(args: argparse.Namespace, config: Config) -> AuditOptions:
    return AuditOptions(
        args.training_branch,
        args.features_head,
        None if args.forward is None else import_function(args.forward),
        _columns(args),
        amp=args.amp,
        limit=args.limit,
        seed=config.seed or 0,
        weights=args.weights,
        save_features=args.save_features,
        features=args.features,
        distributed=True,
        progress=True,
        provenance={
            "command": shlex.join(["cmiei", *args.words]),
            "model_args": {key: str(value) for key, value in args.model_args},
        },
    )


def _check_gates(args: argparse.Namespace, head: Head) -> None:
    names = head.partition.names
    unknown = [name for name, _ in args.fail_above if name not in names]
    if unknown:
        problem = f"--fail-above: no modality {unknown[0]!r} (there are {', '.join(names)})"
        raise argparse.ArgumentError(None, problem)


def _parent(file: str | None) -> list[Path]:
    return [] if file is None else [Path(file).parent]


def _discover(args: argparse.Namespace, model: nn.Module) -> None:
    """Print the heads of the model, with the first batch as its input."""
    if args.checkpoint is not None:
        load_checkpoint(model, checkpoints_in(args.checkpoint)[-1], (), weights=args.weights)
    batches, device = call_function(args.data), device_of(model)
    for given in batches if isinstance(batches, Iterable) else ():
        own = args.forward is None
        batch = read_batch(model, given, device, _columns(args), checked=own)
        call = batch.call
        if not own:
            mode = training_branch if args.training_branch else eval_mode
            call = call_in(import_function(args.forward), model, batch.given, mode)
        discover_in_call(model, call, Grouping(dict(args.together), args.ignore))
        return
    raise InputError(
        "there is no batch to run the model with",
        got=type(batches).__name__,
        expected="batches, such as a DataLoader",
        remedy="return a list or a loader that yields at least one",
    )


def _save_and_print(args: argparse.Namespace, report: AuditReport) -> None:
    path = report.save(args.output)  # first of all: printing may fail
    console = Console(highlight=False)
    console.print(report.table())
    written = visible(f"{path.parent}{os.sep}")
    console.print(f"written to {written}", soft_wrap=True, markup=False)
