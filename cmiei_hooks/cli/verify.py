"""``cmiei verify``: one dry run with the first batch, and a line for each check."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from torch import nn

from ..auditing import import_function
from ..distributed import joined
from ..fusion import Call, training_mode
from ..settings import Config
from ..verification import verify
from .first_call import first_call, loaded_model

__all__ = ["run"]

_NO = 1
"""Exit code of a dry run in which a check said no."""


def run(args: argparse.Namespace, config: Config) -> int:
    """Print the checks; returns 0, or 1 if one of them says no.

    Raises:
        CMIEIError: the model cannot be made or called, or a setting is wrong.
    """
    with joined():
        model = loaded_model(args, config.seed or 0)
        report = verify(
            model,
            *_inputs(model, first_call(args, model, training_mode)),
            config=config,
            modalities=args.modalities,
            dim=args.dim,
            output=args.logits,
            combine=import_function(args.combine) if ":" in (args.combine or "") else None,
        )
    return 0 if report.ok else _NO


def _inputs(model: nn.Module, call: Call) -> tuple[Any, ...]:
    """The call as ``verify`` takes it: positional arguments, or one dict of keywords."""
    args, kwargs = call
    if not kwargs:
        return args
    names = list(inspect.signature(model.forward).parameters)
    return ({**dict(zip(names, args, strict=False)), **kwargs},)
