"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ..errors import CMIEIError
from ..settings import Config, refuse_both
from .options import add_arguments, configuration

__all__ = ["add_arguments", "read"]


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
    refuse_both(args.splits, args.modalities)
    return config


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
