"""What the options of an audit become: the head of the model, and how the model is run."""

from __future__ import annotations

import argparse
import shlex

from torch import nn

from ..auditing import AuditOptions, Columns, import_function
from ..fusion import Head, locate
from ..settings import Config

__all__ = ["audit_options", "located_head"]


def located_head(args: argparse.Namespace, config: Config, model: nn.Module) -> Head:
    """The head that ``add_head_arguments`` and the settings name.

    Raises:
        CMIEIError: the model has no such head.
    """
    return locate(
        model,
        config,
        modalities=args.modalities,
        dim=args.dim,
        output=args.logits,
        combine=import_function(args.combine) if ":" in (args.combine or "") else None,
    )


def audit_options(args: argparse.Namespace, config: Config) -> AuditOptions:
    """How ``add_run_arguments`` says that the model is run.

    Raises:
        CMIEIError: there is no such function.
    """
    return AuditOptions(
        args.training_branch,
        args.features_head,
        None if args.forward is None else import_function(args.forward),
        Columns(args.labels, args.group_by, args.inputs),
        amp=args.amp,
        limit=args.limit,
        seed=config.seed or 0,
        weights=args.weights,
        distributed=True,
        progress=True,
        provenance={
            "command": shlex.join(["cmiei", *args.words]),
            "model_args": {key: str(value) for key, value in args.model_args},
        },
    )
