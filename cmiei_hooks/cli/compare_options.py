"""Compare checkpoints or saved audits over the same samples: what differs, and how sure that is."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..comparing import is_saved_audit
from ..settings import Config, refuse_both
from .diagnose_options import add_run_arguments
from .options import add_head_arguments, add_model_arguments, refuse_missing
from .settings import add_setting_arguments, configuration

__all__ = ["add_arguments", "groups_of", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.usage = (
        "cmiei compare AUDIT AUDIT [AUDIT ...]\n"
        "       cmiei compare AUDIT ... --with AUDIT ...\n"
        "       cmiei compare PATH PATH ... --model MODULE:FUNCTION --data MODULE:FUNCTION \\\n"
        "           --head NAME --splits W,W,... [options]"
    )
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "runs",
        nargs="+",
        metavar="PATH",
        help="directories of saved audits (from cmiei diagnose --output), or checkpoints; each is "
        "compared with the first, sample by sample",
    )
    what.add_argument(
        "--with",
        dest="others",
        nargs="+",
        action="append",
        default=[],
        metavar="PATH",
        help="compare groups of runs, such as ten seeds: these, pair by pair, with those before; "
        "may be given several times",
    )
    model = parser.add_argument_group("for checkpoints", "Saved audits need none of these.")
    add_model_arguments(model, checkpoint=False)
    add_head_arguments(model)
    add_run_arguments(model)
    add_setting_arguments(model, trailing=False)
    parser.set_defaults(opts=[])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/comparison"),
        metavar="DIR",
        help="where the report goes, and the audits of checkpoints (runs/comparison)",
    )


def groups_of(args: argparse.Namespace) -> list[list[str]]:
    """The runs of each group; without ``--with`` each is a group of its own."""
    return [args.runs, *args.others] if args.others else [[run] for run in args.runs]


def read(args: argparse.Namespace) -> Config:
    """The settings.

    Raises:
        UsageError: for a checkpoint an option is missing.
        CMIEIError: a setting is out of range, or two options say where the modalities are.
    """
    config = configuration(args)
    if not all(is_saved_audit(run) for group in groups_of(args) for run in group):
        refuse_missing(args, ("model", "data", "head", "splits"), config)
    refuse_both(args.splits, args.modalities)
    return config
