"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse
import dataclasses
import os
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

from ..audit import AuditReport
from ..audit.batches import Columns, read_batch
from ..audit.collect import Collected, Setting, collect, collect_again, device_of
from ..audit.environment import git_state, sha256, versions
from ..audit.features import load_calls, save_calls
from ..audit.loading import (
    Loaded,
    call_function,
    checkpoints_in,
    import_function,
    load_checkpoint,
)
from ..audit.record import together
from ..audit.run import refuse_no_batches, warn_of_draws
from ..audit.summary import make_report
from ..config import Config
from ..discovery import discover
from ..distributed import gather_objects, rank
from ..errors import CheckpointError, CMIEIError, InputError
from ..head import Head, locate, refuse_both
from .gate import violations
from .options import add_arguments, configuration
from .processes import finish_first, processes, wait_for_all, world

__all__ = ["GATE", "add_arguments", "audit_checkpoint", "make_directory", "run"]

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
    with processes():
        _seed(config.seed or 0)
        model = _model(args)
        if args.discover:
            _discover(args, model)
            return 0
        where = locate(model, config, modalities=args.modalities, dim=args.dim, output=args.logits)
        _check_gates(args, where)
        for path in (args.output, *_parent(args.save_features)):
            make_directory(path)
        with finish_first():
            report, error = _audit(args, model, where, config)
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
    print_report(console, report)
    path = report.save(args.output)
    console.print(f"written to {path.parent}{os.sep}", soft_wrap=True)
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


def _seed(seed: int) -> None:
    """A loader that shuffles yields the same batches in every process and run."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _audit(
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
        shard=(rank(), world()),
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
        _seed(how.seed)
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
    if world() > 1 and isinstance(getattr(batches, "sampler", None), DistributedSampler):
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
    if world() == 1:
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
        "processes": world(),
    }


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


def _length(batches: Iterable[Any]) -> int | None:
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader over a dataset without a length
        return None


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


def print_report(console: Console, report: AuditReport) -> None:
    """The table, with what of the checkpoint did not fit."""
    console.print(report.table())
    if report.checkpoint is not None:
        _print_loaded(console, report.checkpoint)


def _print_loaded(console: Console, loaded: Loaded) -> None:
    console.print(f"checkpoint {loaded.path}: {loaded.loaded} tensors loaded", soft_wrap=True)
    parts = (
        ("missing, initial values kept", loaded.missing),
        ("unexpected, ignored", loaded.unexpected),
        ("of another shape, initial values kept", loaded.mismatched),
    )
    for what, keys in parts:
        if keys:
            console.print(
                f"  {len(keys)} {what}: {', '.join(keys)}",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )
