"""``cmiei compare``: audit what is not audited yet, print and write the comparison."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from pathlib import Path

from rich.console import Console

from ..auditing import (
    AuditReport,
    audit_checkpoints,
    call_function,
    checkpoints_in,
    make_model,
    seed_everything,
)
from ..comparing import ComparisonReport, compare, is_saved_audit
from ..distributed import joined, rank, wait_for_all
from ..reporting import visible
from ..settings import Config
from .audit_call import audit_options, located_head
from .compare_options import groups_of
from .options import make_directory

__all__ = ["run"]


def run(args: argparse.Namespace, config: Config) -> int:
    """Audit, compare, write the reports, print the tables; returns 0.

    Raises:
        CMIEIError: the model, a checkpoint, the data or the head cannot be measured; or the audits
            cannot be compared.
    """
    groups = groups_of(args)
    with joined():
        make_directory(args.output)
        made = _audits(args, config, [run for group in groups for run in group])
        audits = [[made.get(run, run) for run in group] for group in groups]
        report = compare(*audits, seed=config.seed or 0)
        command = {"command": shlex.join(["cmiei", *args.words])}
        report = dataclasses.replace(report, environment=command | report.environment)
        if rank() == 0:
            _save_and_print(args, report)
        wait_for_all()
    return 0


def _audits(args: argparse.Namespace, config: Config, runs: list[str]) -> dict[str, AuditReport]:
    """The audits of the checkpoints among the runs; each is saved as soon as it is there."""
    checkpoints = [run for run in dict.fromkeys(runs) if not is_saved_audit(run)]
    if not checkpoints:
        return {}
    seed_everything(config.seed or 0)
    model = make_model(args.model, dict(args.model_args), args.device)
    head, options = located_head(args, config, model), audit_options(args, config)
    made = {}
    for number, path in enumerate(checkpoints, 1):
        outcome = audit_checkpoints(
            model, lambda: call_function(args.data), head, config, options, checkpoints_in(path)
        )
        made[path] = outcome.complete()
        if rank() == 0:
            made[path].save(args.output / "audits" / f"{number}-{Path(path).stem}")
    return made


def _save_and_print(args: argparse.Namespace, report: ComparisonReport) -> None:
    path = report.save(args.output)  # first of all: printing may fail
    console = Console(highlight=False)
    console.print(report.table())
    written = visible(f"{path.parent}{os.sep}")
    console.print(f"written to {written}", soft_wrap=True, markup=False)
