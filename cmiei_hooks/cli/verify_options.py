"""Check on one batch whether C-MIEI can be attached to a head; ends with 1 if it cannot."""

from __future__ import annotations

import argparse

from ..settings import Config, refuse_both
from .options import (
    add_call_arguments,
    add_head_arguments,
    add_model_arguments,
    refuse_missing,
)
from .settings import add_setting_arguments, configuration

__all__ = ["add_arguments", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.usage = (
        "cmiei verify --model MODULE:FUNCTION --data MODULE:FUNCTION --head NAME \\\n"
        "           --splits W,W,... [options] [KEY VALUE ...]"
    )
    model = parser.add_argument_group("what is verified")
    add_model_arguments(model)
    add_head_arguments(model)
    add_call_arguments(
        parser.add_argument_group("how it is called", "In training mode, with the first batch.")
    )
    add_setting_arguments(parser.add_argument_group("settings"))


def read(args: argparse.Namespace) -> Config:
    """The settings.

    Raises:
        UsageError: an option is missing.
        CMIEIError: a setting is out of range, or two options say where the modalities are.
    """
    config = configuration(args)
    refuse_missing(args, ("model", "data", "head", "splits"), config)
    refuse_both(args.splits, args.modalities)
    return config
