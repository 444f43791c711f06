"""``cmiei discover``: print the heads of the model, with the first batch as its input."""

from __future__ import annotations

import argparse

from ..discovery import Grouping, discover_in_call
from ..distributed import joined
from ..fusion import eval_mode, training_branch
from ..settings import Config
from .first_call import first_call, loaded_model

__all__ = ["run"]


def run(args: argparse.Namespace, config: Config) -> int:
    """Print the heads; returns 0.

    Raises:
        CMIEIError: the model cannot be made or called, or has no head.
    """
    with joined():
        model = loaded_model(args, config.seed or 0)
        call = first_call(args, model, training_branch if args.training_branch else eval_mode)
        discover_in_call(model, call, Grouping(dict(args.together), args.ignore))
    return 0
