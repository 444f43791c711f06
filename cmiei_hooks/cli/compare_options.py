"""Compare checkpoints or saved audits over the same samples: what differs, and how sure that is."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..comparing import audit_of, is_saved_audit, is_without_runs, refuse_sizes
from ..errors import UsageError, did_you_mean
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
    parser.add_argument_group("what comes out").add_argument(
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
        UsageError: a path does not exist, or an option for checkpoints is missing.
        CMIEIError: there are no two runs, or groups of different sizes; a setting is out of range;
            or two options say where the modalities are.
    """
    config = configuration(args)
    refuse_sizes(groups_of(args))
    _refuse_nothing([run for group in groups_of(args) for run in group])
    if not all(is_saved_audit(run) for group in groups_of(args) for run in group):
        refuse_missing(args, ("model", "data", "head", "splits"), config)
    refuse_both(args.splits, args.modalities)
    return config


def _refuse_nothing(runs: Sequence[str]) -> None:
    for path in (Path(run) for run in runs):
        if not path.exists():
            beside = [str(path.parent / one.name) for one in path.parent.glob("*")]
            raise UsageError(
                f"there is no {path}",
                got=str(path),
                expected="the directory of a saved audit, or a checkpoint",
                remedy=did_you_mean(str(path), beside) or "check the path",
            )
        if (audit := audit_of(path)) is not None and not is_saved_audit(path):
            raise UsageError(
                f"{path} is one file of a saved audit",
                got=str(path),
                expected="its directory",
                remedy=f"write {audit}",
            )
        if is_without_runs(path):
            raise UsageError(
                f"{path} holds neither a saved audit nor a checkpoint",
                got="a directory without report.json",
                expected="the directory of a saved audit, or a checkpoint",
                remedy="check the path, or audit into it: cmiei diagnose ... --output "
                f"{shlex.quote(str(path))}",
            )
