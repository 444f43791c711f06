"""Print the heads that a model has, with the options for each; nothing is measured."""

from __future__ import annotations

import argparse

from ..settings import Config
from .options import add_call_arguments, add_model_arguments, refuse_missing
from .values import columns, together

__all__ = ["add_arguments", "add_grouping_arguments", "add_training_branch", "read"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.usage = "cmiei discover --model MODULE:FUNCTION --data MODULE:FUNCTION [options]"
    add_model_arguments(parser.add_argument_group("the model"))
    call = parser.add_argument_group("how it is called", "With the first batch.")
    add_call_arguments(call)
    add_training_branch(call)
    add_grouping_arguments(parser.add_argument_group("which inputs are modalities"))


def add_training_branch(group: argparse._ArgumentGroup) -> None:
    """For models whose eval mode skips the head."""
    group.add_argument(
        "--training-branch",
        action="store_true",
        help="run the branch 'if self.training', for models that skip their head in eval mode; "
        "nothing is updated, and dropout is off",
    )


def add_grouping_arguments(group: argparse._ArgumentGroup) -> None:
    """Which inputs of the model are modalities."""
    group.add_argument(
        "--together",
        type=together,
        action="append",
        default=[],
        metavar="NAME=INPUT,INPUT",
        help="inputs of the model that are one modality: text=input_ids,attention_mask; may be "
        "given several times",
    )
    group.add_argument(
        "--ignore",
        type=columns,
        default=(),
        metavar="INPUT[,INPUT...]",
        help="inputs of the model that are not modalities (masks of 0 and 1 and positions are "
        "left out anyway)",
    )


def read(args: argparse.Namespace) -> Config:
    """The settings: the seed alone.

    Raises:
        UsageError: an option is missing.
        CMIEIError: the seed is out of range.
    """
    config = Config(seed=args.seed)
    refuse_missing(args, ("model", "data"), config)
    return config
