"""Audit one checkpoint after the other, in all processes."""

from __future__ import annotations

import argparse
import dataclasses
import random
import shlex
import sys
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.data.distributed import DistributedSampler

from ..distributed import gather_objects, rank, world_size
from ..errors import CMIEIError, InputError
from ..fusion import Head
from ..reporting import git_state, sha256, versions
from ..settings import Config
from .api import refuse_no_batches, warn_of_draws
from .batches import Columns
from .build_report import make_report
from .collect import Collected, Setting, collect, collect_again, device_of
from .loading import call_function, checkpoints_in, import_function, load_checkpoint
from .report import AuditReport
from .samples import together
from .saved_calls import load_calls, save_calls

__all__ = ["audit_checkpoint", "audit_checkpoints", "seed_everything"]


def audit_checkpoints(
    args: argparse.Namespace, model: nn.Module, head: Head, config: Config
) -> tuple[AuditReport | None, BaseException | None]:
    """The report of the last checkpoint, with the trend over all; and what ended it early."""
    how = Setting(
        args.training_branch,
        None if args.forward is None else import_function(args.forward),
        Columns(args.labels, args.group_by),
        amp=args.amp,
        limit=args.limit,
        seed=config.seed or 0,
        shard=(rank(), world_size()),
    )
    again, keep = args.features is not None, args.save_features is not None
    paths = checkpoints_in(args.checkpoint)
    if len(paths) > 1 and (again or keep):
        raise argparse.ArgumentError(None, "--features and --save-features are for one checkpoint")
    initial = {key: value.detach().clone() for key, value in model.state_dict().items()}
    report: AuditReport | None = None
    error: BaseException | None = None
    trend: list[dict[str, Any]] = []
    for path in paths:
        seed_everything(how.seed)
        model.load_state_dict(initial)  # nothing of the checkpoint before is left
        origin = _origin(args, head, path)
        try:
            batches = load_calls(args.features, origin) if again else _batches(args)
            new, found = audit_checkpoint(
                model, path, batches, head, config, how, again=again, keep_calls=keep
            )
        except (CMIEIError, KeyboardInterrupt) as caught:
            if report is None:
                raise
            new, error = None, caught
        else:
            error = found.error
            if keep and rank() == 0 and error is None:
                save_calls(args.save_features, origin, found.calls)
        report = new or report
        if new is not None:
            trend.append(_point(new))
        if error is not None:
            break
    if report is not None:
        report = dataclasses.replace(
            report,
            partial=error is not None,
            trend=tuple(trend) if len(paths) > 1 else (),
            environment=_environment(args, config, how, device_of(model)),
        )
    return report, error


def _origin(args: argparse.Namespace, head: Head, checkpoint: str) -> dict[str, str]:
    """What features must have in common with the audit that reads them."""
    return {
        "head": head.name,
        "checkpoint": sha256(checkpoint) if Path(checkpoint).is_file() else "",
        "mode": "training branch" if args.training_branch else "eval mode",
        "amp": str(args.amp),
    }


def _batches(args: argparse.Namespace) -> Iterable[Any]:
    batches = call_function(args.data)
    refuse_no_batches(batches)
    if world_size() > 1 and isinstance(getattr(batches, "sampler", None), DistributedSampler):
        raise InputError(
            "the loader shares its samples out among the processes itself",
            got="a DistributedSampler",
            expected="a loader that yields all batches in every process",
            remedy="return a plain loader: each process measures its share of the batches",
        )
    return batches  # type: ignore[no-any-return]  # refused above if it is none


def audit_checkpoint(
    model: nn.Module,
    checkpoint: str,
    batches: Iterable[Any],
    head: Head,
    config: Config,
    how: Setting,
    *,
    again: bool = False,
    keep_calls: bool = False,
) -> tuple[AuditReport | None, Collected]:
    """Load a checkpoint into the model and audit it, with a progress bar on stderr.

    Args:
        model: whose head it is.
        checkpoint: a file of weights.
        batches: of a loader, or the calls of a head if ``again``.
        head: where to observe.
        config: the settings.
        how: the model is run.
        again: run the head alone.
        keep_calls: keep what the head receives.

    Returns:
        The report (None if nothing was measured) and what was collected, by all processes.
    """
    loaded = load_checkpoint(model, checkpoint, head.names)
    console = Console(stderr=True)
    if console.is_terminal and rank() == 0:
        total = _length(batches)
        title = f"auditing {loaded.path}"
        batches = track(batches, title, total=total, console=console, transient=True)
    found = (
        collect_again(model, batches, head, how)
        if again
        else collect(model, batches, head, how, keep_calls=keep_calls)
    )
    found = _from_all_processes(found)
    if found.error is None:
        together(found.parts)  # refuses if there is none
        warn_of_draws(found)
    if not found.parts:
        return None, found
    partial = found.error is not None
    samples = together(found.parts)
    report = make_report(
        head, config, samples, seed=how.seed, group=how.columns.group, partial=partial
    )
    return dataclasses.replace(report, checkpoint=loaded), found


def _from_all_processes(found: Collected) -> Collected:
    if world_size() == 1:
        return found
    error = found.error
    if error is not None and not isinstance(error, (CMIEIError, KeyboardInterrupt)):
        error = RuntimeError(f"rank {rank()}: {type(error).__name__}: {error}")  # can be pickled
    everyone = gather_objects(dataclasses.replace(found, error=error))
    return Collected(
        [part for one in everyone for part in one.parts],
        sorted((call for one in everyone for call in one.calls), key=lambda call: call.batch),
        next((one.error for one in everyone if one.error is not None), None),
        any(one.drew for one in everyone),
    )


def _point(report: AuditReport) -> dict[str, Any]:
    return {
        "checkpoint": "" if report.checkpoint is None else Path(report.checkpoint.path).name,
        "influence": {name: figure.mean for name, figure in report.influence.items()},
        "dominance": {name: figure.mean for name, figure in report.dominance.items()},
        "accuracy": None if report.accuracy is None else report.accuracy.mean,
        "missing": len(report.checkpoint.missing) if report.checkpoint else 0,
        "mismatched": len(report.checkpoint.mismatched) if report.checkpoint else 0,
    }


def _environment(
    args: argparse.Namespace, config: Config, how: Setting, device: torch.device
) -> dict[str, Any]:
    return {
        "command": shlex.join(["cmiei", *args.words]),
        "config": {k: str(v) if v == float("inf") else v for k, v in config.to_dict().items()},
        "mode": "training branch" if args.training_branch else "eval mode",
        "model_args": {key: str(value) for key, value in args.model_args},
        "versions": versions(),
        "git": git_state(),
        "device": str(device),
        "amp": args.amp,
        "seed": how.seed,
        "processes": world_size(),
    }


def seed_everything(seed: int) -> None:
    """A loader that shuffles yields the same batches in every process and run."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _length(batches: Iterable[Any]) -> int | None:
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader over a dataset without a length
        return None
