"""Run a training script that nobody edits, and observe how its model uses the modalities."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..errors import UsageError
from ..running import Options, Program
from ..settings import Config, refuse_both
from .options import add_head_arguments, refuse_missing
from .settings import add_setting_arguments, configuration
from .values import integer, refused

__all__ = ["add_arguments", "read", "split_program"]


def split_program(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of ``cmiei run``, and those after ``--``; all words of another command."""
    if words[:1] != ["run"] or "--" not in words:
        return words, []
    end = words.index("--")
    return words[:end], words[end + 1 :]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; what is run stands after ``--``."""
    parser.usage = (
        "cmiei run --head NAME --splits W,W,... [options] [KEY VALUE ...] -- train.py ARGS\n"
        "       cmiei run --discover -- -m package.train ARGS"
    )
    head = parser.add_argument_group("what is observed")
    add_head_arguments(head)
    head.add_argument(
        "--discover",
        action="store_true",
        help="run up to the first training batch, print the heads that the model has, and stop",
    )
    act = parser.add_argument_group("acting", "Without --act, training stays as it is to the bit.")
    act.add_argument(
        "--act", action="store_true", help="substitute modalities that dominate; needs a warm-up"
    )
    act.add_argument(
        "--warmup-steps", type=_steps, metavar="N", help="the warm-up in training calls of the head"
    )
    act.add_argument(
        "--epoch-length",
        type=_length,
        metavar="N",
        help="training calls of the head in an epoch, for settings that are counted in epochs",
    )
    settings = parser.add_argument_group("settings")
    add_setting_arguments(settings)
    settings.add_argument("--seed", type=integer, help="seed of the noise (that of torch)")
    out = parser.add_argument_group("what comes out")
    out.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write steps.jsonl and a report to this directory (nothing is written)",
    )


def read(args: argparse.Namespace) -> tuple[Program, Options | None]:
    """The program, and how it is observed; None if only its heads are asked for.

    Raises:
        CMIEIError: options are missing or contradict each other.
    """
    program = Program(args.program)
    if args.discover:
        return program, None
    refuse_both(args.splits, args.modalities)
    config = _acting(args, configuration(args))
    if ":" in (args.combine or ""):
        raise UsageError(
            "--combine is sum or mean where a script is observed",
            got=args.combine,
            expected="sum or mean",
            remedy="for another combination, attach to the model in the script itself",
        )
    finder = shlex.join(["cmiei", "run", "--discover", "--", *args.program])
    refuse_missing(args, ("head", "splits"), config, finder)
    return program, Options(
        config,
        args.modalities,
        args.dim,
        args.logits,
        args.act,
        args.epoch_length,
        args.output,
        shlex.join(["cmiei", *args.words]),
    )


def _acting(args: argparse.Namespace, config: Config) -> Config:
    """The settings with the warm-up; refused if they could not mean what was asked for."""
    given = {"--warmup-steps": args.warmup_steps, "--epoch-length": args.epoch_length}
    if not args.act:
        given["P_MAX"] = config.p_max if "P_MAX" in " ".join(args.opts[::2]) else None
        for name in (name for name, value in given.items() if value):
            raise UsageError(
                f"{name} needs --act: a run only observes",
                got=f"{name} without --act",
                expected="settings of what is observed",
                remedy=f"leave {name} out, or add --act to substitute modalities",
            )
        return config
    if args.warmup_steps is not None:
        config = config.override(warmup_steps=args.warmup_steps)
    config.refuse_endless()
    in_epochs = config.warmup_steps is None and config.warmup_epochs > 0
    if args.epoch_length is None and (in_epochs or config.end_epoch is not None):
        key = "WARMUP_EPOCHS" if in_epochs else "END_EPOCH"
        raise UsageError(
            f"{key} is counted in epochs",
            got="no --epoch-length",
            expected="the number of training calls in an epoch",
            remedy="add --epoch-length N"
            + (", or count the warm-up in --warmup-steps N" if in_epochs else ""),
        )
    return config


def _steps(text: str) -> int:
    number = integer(text)
    if number < 0:
        remedy = "write 0 for no warm-up"
        raise refused("not a number of steps", text, "0 or more", remedy)
    return number


def _length(text: str) -> int:
    number = integer(text)
    if number < 1:
        remedy = "use the number of batches in an epoch, len(loader)"
        raise refused("not a number of steps", text, "1 or more", remedy)
    return number
