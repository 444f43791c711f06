"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ..errors import CMIEIError
from ..settings import Config, refuse_both
from . import options
from .options import columns, configuration

__all__ = ["add_arguments", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; with none of them the demo's own model is audited."""
    options.add_arguments(parser)
    discover = parser.add_argument_group(
        "which heads there are",
        "Instead of an audit. --forward, --training-branch, --inputs and --labels say how the "
        "model is called with the first batch, as for an audit.",
    )
    discover.add_argument(
        "--discover",
        action="store_true",
        help="print the heads that the model has, with the options for each, and stop",
    )
    discover.add_argument(
        "--together",
        type=_together,
        action="append",
        default=[],
        metavar="NAME=INPUT,INPUT",
        help="inputs of the model that are one modality: text=input_ids,attention_mask; may be "
        "given several times",
    )
    discover.add_argument(
        "--ignore",
        type=columns,
        default=(),
        metavar="INPUT[,INPUT...]",
        help="inputs of the model that are not modalities (masks of 0 and 1 and positions are "
        "left out anyway)",
    )


def read(args: argparse.Namespace) -> Config:
    """The settings. If nothing is given they lack the head, which is then that of the demo.

    Raises:
        argparse.ArgumentError: some of the options that belong together are missing.
        SplitsError: two options say where the modalities are.
    """
    try:
        config = configuration(args)
    except CMIEIError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    nothing = not any((args.model, args.checkpoint, args.data, args.head, args.config))
    if not nothing or args.discover:
        _refuse_missing(args, config)
    _refuse_without_discover(args)
    refuse_both(args.splits, args.modalities)
    return config


def _refuse_without_discover(args: argparse.Namespace) -> None:
    given = {"--together": args.together, "--ignore": args.ignore}
    for option in (option for option, value in given.items() if value and not args.discover):
        raise argparse.ArgumentError(None, f"{option} is for --discover")


def _refuse_missing(args: argparse.Namespace, config: Config) -> None:
    needed = {"model": args.model}
    if not args.features:
        needed["data"] = args.data
    if not args.discover:
        needed |= {"checkpoint": args.checkpoint, "head": config.head}
        branches = True if isinstance(config.head, Mapping) else None
        needed["splits"] = config.splits or args.modalities or branches
    missing = [f"--{name}" for name, value in needed.items() if value is None]
    if missing:
        splits = " (or --modalities)" if "--splits" in missing else ""
        raise argparse.ArgumentError(None, f"missing {', '.join(missing)}{splits}")


def _together(text: str) -> tuple[str, tuple[int | str, ...]]:
    name, equals, inputs = text.partition("=")
    if not name or not equals or not inputs:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not NAME=INPUT,INPUT")
    return name, columns(inputs)
