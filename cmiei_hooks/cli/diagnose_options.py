"""Measure how much a trained checkpoint depends on each modality; nothing is trained."""

from __future__ import annotations

import argparse

from ..errors import UsageError
from ..settings import Config, refuse_both
from .discover_options import add_grouping_arguments, add_training_branch
from .options import (
    add_call_arguments,
    add_head_arguments,
    add_model_arguments,
    refuse_missing,
)
from .settings import add_setting_arguments, configuration
from .values import count, limit, place, share

__all__ = ["add_arguments", "add_run_arguments", "names_nothing", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; with none of them the demo's own model is audited."""
    parser.usage = (
        "cmiei diagnose --model MODULE:FUNCTION --checkpoint PATH --data MODULE:FUNCTION \\\n"
        "           --head NAME --splits W,W,... [options] [KEY VALUE ...]\n"
        "       cmiei diagnose\n"
        "       cmiei diagnose --discover | --verify [options of cmiei discover | verify]"
    )
    model = parser.add_argument_group(
        "what is audited", "Without these the model of the demo is audited."
    )
    add_model_arguments(model)
    add_head_arguments(model)
    run = parser.add_argument_group("how it is run")
    add_run_arguments(run)
    run.add_argument(
        "--save-features", metavar="FILE", help="write what the head receives to this file"
    )
    run.add_argument(
        "--features", metavar="FILE", help="audit the head alone, over a file of --save-features"
    )
    add_setting_arguments(parser.add_argument_group("settings"))
    _add_output_arguments(parser.add_argument_group("what comes out"))
    other = parser.add_argument_group("instead of an audit")
    which = other.add_mutually_exclusive_group()
    which.add_argument("--discover", action="store_true", help="as cmiei discover")
    which.add_argument("--verify", action="store_true", help="as cmiei verify")
    add_grouping_arguments(other)


def add_run_arguments(group: argparse._ArgumentGroup) -> None:
    """How the model is run over all batches."""
    add_call_arguments(group)
    add_training_branch(group)
    group.add_argument(
        "--features-head",
        action="store_true",
        help="audit a head that returns features, from which the model computes its output by more "
        "layers; without it such a head is refused",
    )
    group.add_argument(
        "--group-by", type=place, metavar="COLUMN", help="index or key of a group, such as camera"
    )
    group.add_argument("--limit", type=count, metavar="N", help="stop after about N samples")
    group.add_argument("--amp", action="store_true", help="run under autocast")


def _add_output_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output", default="runs/audit", metavar="DIR", help="where the report goes (runs/audit)"
    )
    group.add_argument(
        "--fail-above",
        type=limit,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="exit with 1 if the mean influence of this modality is larger",
    )
    group.add_argument(
        "--fail-share",
        type=share,
        metavar="SHARE",
        help="exit with 1 if a modality dominates more than this share of the samples",
    )


# fmt: off
_WHAT = [
    "model", "model_args", "checkpoint", "weights", "data", "head", "combine", "splits",
    "modalities", "logits", "fill", "config", "features", "forward", "inputs", "labels",
    "group_by", "training_branch", "features_head", "discover", "verify",
]
# fmt: on
"""Options that say what is audited. With one of them, it is not the demo."""


def names_nothing(args: argparse.Namespace) -> bool:
    """Whether nothing says what is audited."""
    given = [getattr(args, name) for name in _WHAT]
    return not any(value is not None and value is not False and value != [] for value in given)


def read(args: argparse.Namespace) -> Config:
    """The settings. If nothing says what is audited they lack the head, which is then the demo's.

    Raises:
        UsageError: some of the options that belong together are missing.
        CMIEIError: a setting is out of range, or two options say where the modalities are.
    """
    config = configuration(args)
    audit = not (args.discover or args.verify)
    needed = ["model", "checkpoint"] if audit else ["model"]
    needed += [] if audit and args.features else ["data"]
    needed += [] if args.discover else ["head", "splits"]
    if not names_nothing(args):
        refuse_missing(args, needed, config)
    grouping = {"--together": args.together, "--ignore": args.ignore}
    for option in (option for option, value in grouping.items() if value and not args.discover):
        raise UsageError(
            f"{option} is for --discover",
            got=f"{option} with an audit",
            expected=f"{option} with --discover",
            remedy=f"leave {option} out, or add --discover",
        )
    refuse_both(args.splits, args.modalities)
    return config
