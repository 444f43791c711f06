"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.progress import track
from torch import nn

from ..audit import AuditReport, audit
from ..audit.batches import read_batch
from ..audit.loading import Loaded, call_function, import_function, load_checkpoint
from ..discovery import discover
from ..errors import CheckpointError, CMIEIError, InputError
from ..functional import MEASURES

__all__ = ["add_arguments", "diagnose", "make_directory", "print_report", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; with none of them the demo's own model is audited."""
    model = parser.add_argument_group(
        "what is audited", "Without these the model of the demo is audited."
    )
    model.add_argument("--model", metavar="MODULE:FUNCTION", help="returns the model, untrained")
    model.add_argument("--checkpoint", metavar="FILE", help="its weights, as torch.save wrote them")
    model.add_argument(
        "--data", metavar="MODULE:FUNCTION", help="returns batches: inputs, or (inputs, labels)"
    )
    model.add_argument(
        "--head",
        type=_words,
        metavar="NAME[,NAME...]",
        help="fusion head, as in model.named_modules(); several names are a chain",
    )
    model.add_argument(
        "--splits", type=_integers, metavar="W,W,...", help="widths of the modalities: 512,512,512"
    )
    model.add_argument(
        "--modalities",
        type=_yaml,
        metavar="YAML",
        help="instead of --splits, where each modality is in the arguments of the head: "
        "'{r: [0, 3], n: [1, 4], t: [2, 5]}'",
    )
    model.add_argument(
        "--dim", type=int, default=-1, help="axis on which the modalities are concatenated (-1)"
    )
    model.add_argument(
        "--logits",
        type=_yaml,
        metavar="YAML",
        help="which part of the head's return value is the logits: an index or a key; for a chain "
        "a list with one entry for each link: '[0, null, null]'",
    )
    model.add_argument(
        "--training-branch",
        action="store_true",
        help="run the branch 'if self.training', for models that skip their head in eval mode; "
        "nothing is updated and nothing is random",
    )
    model.add_argument(
        "--forward",
        metavar="MODULE:FUNCTION",
        help="forward(model, batch) runs the model on one batch, for models that need more",
    )
    model.add_argument(
        "--discover",
        action="store_true",
        help="print the heads that the model has, with the first batch as input, and stop",
    )
    parser.add_argument(
        "--names", type=_words, metavar="N,N,...", help="names of the modalities: r,n,t"
    )
    parser.add_argument(
        "--drop", default="zero", choices=["zero", "mean"], help="what stands in for a modality"
    )
    parser.add_argument(
        "--measure", default="kl", choices=[*MEASURES], help="how the change is measured (kl)"
    )
    parser.add_argument("--device", default="cpu", help="where to run: cpu, cuda, cuda:1")
    parser.add_argument(
        "--output", default="runs/audit", metavar="DIR", help="where report.json goes (runs/audit)"
    )


def _integers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of widths such as 512,512,512"
        ) from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read as YAML") from None


_REQUIRED = ("model", "checkpoint", "data", "head", "splits")
_TO_DISCOVER = ("model", "data")


def run(args: argparse.Namespace) -> None:
    """Audit, print the table, write report.json.

    Raises:
        argparse.ArgumentError: some of the options that belong together are missing.
        CMIEIError: the model, checkpoint, data or head cannot be measured.
    """
    required = _TO_DISCOVER if args.discover else _REQUIRED
    given = {name: getattr(args, name) for name in required}
    if "splits" in given and args.modalities is not None:
        del given["splits"]
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if len(missing) == len(_REQUIRED):
        from . import demo  # noqa: PLC0415  # demo imports this module

        demo.fill_in(args)
    elif missing:
        raise argparse.ArgumentError(None, f"missing {', '.join(missing)} (give all, or none)")
    model = call_function(args.model)
    if not isinstance(model, nn.Module):
        raise CheckpointError(
            f"{args.model} does not return a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="return the model, without the optimizer and the like",
        )
    if args.discover:
        _discover(model, call_function(args.data))
        return
    make_directory(args.output)
    report = diagnose(
        model,
        args.checkpoint,
        call_function(args.data),
        device=args.device,
        head=args.head,
        splits=args.splits,
        names=args.names,
        modalities=args.modalities,
        dim=args.dim,
        output=args.logits,
        in_training_branch=args.training_branch,
        forward=None if args.forward is None else import_function(args.forward),
        drop=args.drop,
        measure=args.measure,
    )
    path = report.save(args.output)
    print_report(report)
    Console(highlight=False).print(f"written to {path}", soft_wrap=True)


def _discover(model: nn.Module, batches: Any) -> None:
    """Print the heads of the model, with the first batch as its input."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for given in batches if isinstance(batches, Iterable) else ():
        inputs, keywords = read_batch(model, given, device, checked=True).call
        discover(model, *((keywords,) if keywords else inputs))
        return
    raise InputError(
        "there is no batch to run the model with",
        got=type(batches).__name__,
        expected="batches, such as a DataLoader",
        remedy="return a list or a loader that yields at least one",
    )


def diagnose(
    model: nn.Module, checkpoint: str, batches: Iterable[Any], *, device: str = "cpu", **where: Any
) -> AuditReport:
    """Load the checkpoint into the model and audit it, with a progress bar on stderr."""
    loaded = load_checkpoint(model, checkpoint, where["head"])
    try:
        model.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's various ways
        raise CheckpointError(
            f"the model cannot be moved to {device!r}",
            got=str(error).splitlines()[0],
            expected="a device of this machine, such as cpu or cuda",
            remedy="leave --device out to run on the CPU",
        ) from error
    console = Console(stderr=True)
    if isinstance(batches, Iterable) and console.is_terminal:
        batches = track(
            batches,
            f"auditing {loaded.path}",
            total=_length(batches),
            console=console,
            transient=True,
        )
    return dataclasses.replace(audit(model, batches, **where), checkpoint=loaded)


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


def print_report(report: AuditReport) -> None:
    """The table on stdout, with what of the checkpoint did not fit."""
    console = Console(highlight=False)
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
