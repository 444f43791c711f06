"""``cmiei diagnose``: audit checkpoints, print and write the report."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from rich.console import Console

from ..auditing import (
    AuditReport,
    audit_checkpoints,
    call_function,
    checkpoints_in,
    finish_first,
    make_model,
    seed_everything,
    violations,
)
from ..distributed import joined, rank, wait_for_all
from ..errors import InputError, UsageError, did_you_mean
from ..fusion import Head
from ..reporting import visible
from ..settings import Config
from . import discover, verify
from .audit_call import audit_options, located_head
from .demo import fill_in
from .options import make_directory
from .settings import configuration

__all__ = ["GATE", "run"]

GATE = 1
"""Exit code of a report that a gate does not let through."""


def run(args: argparse.Namespace, config: Config) -> int:
    """Audit, write the report, print the tables; returns 0, or 1 if a gate closes.

    Raises:
        UsageError: some of the options do not go together.
        CMIEIError: the model, checkpoint, data or head cannot be measured.
        KeyboardInterrupt: interrupted; a partial report was written if there was anything.
    """
    if args.discover:
        return discover.run(args, config)
    if args.verify:
        return verify.run(args, config)
    if args.model is None:  # nothing says what is audited
        fill_in(args)
        config = configuration(args)
    with joined():
        seed_everything(config.seed or 0)
        model = make_model(args.model, dict(args.model_args), args.device)
        head = located_head(args, config, model)
        _check_gates(args, head)
        checkpoints = checkpoints_in(args.checkpoint)
        if len(checkpoints) > 1 and (args.features or args.save_features):
            raise UsageError(
                "--features and --save-features are for one checkpoint",
                got=f"{len(checkpoints)} checkpoints in {args.checkpoint}",
                expected="one checkpoint",
                remedy=f"write --checkpoint {checkpoints[-1]}",
            )
        for path in (args.output, *_parent(args.save_features)):
            make_directory(path)
        options = dataclasses.replace(
            audit_options(args, config), save_features=args.save_features, features=args.features
        )
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


def _check_gates(args: argparse.Namespace, head: Head) -> None:
    names = head.partition.names
    for name, value in args.fail_above:
        if name not in names:
            raise UsageError(
                f"--fail-above: no modality {name!r}",
                got=f"{name}={value:g}",
                expected="one of " + ", ".join(names),
                remedy=did_you_mean(name, names) or f"write {names[0]}={value:g}",
            )


def _parent(file: str | None) -> list[Path]:
    return [] if file is None else [Path(file).parent]


def _save_and_print(args: argparse.Namespace, report: AuditReport) -> None:
    path = report.save(args.output)  # first of all: printing may fail
    console = Console(highlight=False)
    console.print(report.table())
    written = visible(f"{path.parent}{os.sep}")
    console.print(f"written to {written}", soft_wrap=True, markup=False)
