"""Options that several commands have: the model, its head, and how it is called."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CMIEIError, UsageError
from ..settings import Config
from .values import (
    columns,
    combination,
    function,
    head,
    integer,
    keys,
    pad_ids,
    pair,
    place,
    widths,
    words,
    yaml,
)

__all__ = [
    "add_call_arguments",
    "add_head_arguments",
    "add_model_arguments",
    "make_directory",
    "refuse_missing",
]


def add_model_arguments(group: argparse._ArgumentGroup, *, checkpoint: bool = True) -> None:
    """The model, its weights (unless the command names them otherwise), and the batches."""
    group.add_argument(
        "--model", type=function, metavar="MODULE:FUNCTION", help="returns the model, untrained"
    )
    group.add_argument(
        "--model-args",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="keyword argument of that function (YAML value); may be given several times",
    )
    if checkpoint:
        group.add_argument(
            "--checkpoint",
            metavar="PATH",
            help="its weights: .pth, .pt or .safetensors, or a directory of them, one for each "
            "epoch",
        )
    group.add_argument(
        "--weights",
        metavar="NAME",
        help="which weights of the checkpoint: a top-level key or a prefix, such as ema",
    )
    group.add_argument(
        "--data",
        type=function,
        metavar="MODULE:FUNCTION",
        help="returns batches: inputs, or (inputs, labels)",
    )


def add_head_arguments(group: argparse._ArgumentGroup) -> None:
    """Where the head is, and which part of its input is which modality."""
    group.add_argument(
        "--head",
        type=head,
        metavar="NAME[,NAME...]",
        help="fusion head, as in model.named_modules(); several names are a chain; with the "
        "modalities the branches that give their logits: rgb=clf_rgb,depth=clf_depth",
    )
    group.add_argument(
        "--combine",
        type=combination,
        metavar="HOW",
        help="how the model combines the logits of its branches: sum, mean, or MODULE:FUNCTION of "
        "the list of them",
    )
    group.add_argument(
        "--splits",
        type=widths,
        metavar="W,W,...",
        help="widths of the modalities: 512,512,512, or with their names: audio=32,video=48; null "
        "stands for the rest: null,196",
    )
    group.add_argument(
        "--modalities",
        type=yaml,
        metavar="YAML",
        help="instead of --splits, where each modality is in the arguments of the head: "
        "'{r: [0, 3], n: [1, 4], t: [2, 5]}', '{text: text.0, image: image}'",
    )
    group.add_argument(
        "--dim", type=integer, default=-1, help="axis on which the modalities are concatenated (-1)"
    )
    group.add_argument(
        "--logits",
        type=keys,
        metavar="KEY[,KEY...]",
        help="which part of the head's return value is the logits: an index or a key, or several "
        "that lead inwards: 1,0; for a chain a list with one entry for each link: 0,null,null or "
        "'[0, null, [1, 0]]'",
    )
    group.add_argument(
        "--fill",
        type=pad_ids,
        metavar="NAME=ID,...",
        help="pad id that takes the place of a modality of token ids: text=0",
    )
    group.add_argument(
        "--names", type=words, metavar="N,N,...", help="names of the modalities: r,n,t"
    )


def add_call_arguments(group: argparse._ArgumentGroup) -> None:
    """How the model is called with a batch, and where it runs."""
    group.add_argument(
        "--forward",
        type=function,
        metavar="MODULE:FUNCTION",
        help="forward(model, batch) runs the model on one batch, for models that need more than "
        "columns of it",
    )
    group.add_argument(
        "--inputs",
        type=columns,
        metavar="COLUMN[,COLUMN...]",
        help="indices or keys of the columns of a batch that the model is called with, in order",
    )
    group.add_argument(
        "--labels", type=place, metavar="COLUMN", help="index or key of the labels in a batch"
    )
    group.add_argument("--device", default="auto", help="such as cuda:1 (auto: cuda, if any)")
    group.add_argument("--seed", type=integer, help="seed of whatever is random (SEED, or 0)")


_MEANING = {
    "model": "--model MODULE:FUNCTION, which returns the model",
    "checkpoint": "--checkpoint PATH, its weights",
    "data": "--data MODULE:FUNCTION, which returns batches",
    "head": "--head NAME, the module that fuses the modalities",
    "splits": "--splits W,W,... or --modalities, where they are in its input",
}


def refuse_missing(
    args: argparse.Namespace, needed: Sequence[str], config: Config, finder: str = ""
) -> None:
    """Refuse a command line on which one of these options is missing.

    Args:
        args: of a command with ``add_model_arguments``, and ``add_head_arguments`` if the head is
            needed.
        needed: the options without their dashes.
        config: the settings, which may hold the head and the splits.
        finder: the command that prints the head; if empty, ``cmiei discover`` with these options.

    Raises:
        UsageError: with the command that finds what is missing.
    """
    branches = isinstance(config.head, Mapping)
    given: dict[str, Any] = {name: getattr(args, name, None) for name in needed}
    given["head"] = config.head
    given["splits"] = config.splits or getattr(args, "modalities", None) or branches or None
    missing = [name for name in needed if given[name] is None]
    if not missing:
        return
    splits = " (or --modalities)" if "splits" in missing else ""
    raise UsageError(
        f"missing {', '.join(f'--{name}' for name in missing)}{splits}",
        got=" ".join(["cmiei", *map(shlex.quote, args.words)]),
        expected="; ".join(_MEANING[name] for name in missing),
        remedy=f"{finder} prints them" if finder else _remedy(args, missing),
    )


def _remedy(args: argparse.Namespace, missing: Sequence[str]) -> str:
    """How to find the head; the other options nobody can find but the user."""
    found = " and ".join(f"--{name}" for name in missing if name in ("head", "splits"))
    if not found:
        return "add them" if len(missing) > 1 else "add it"
    if args.model and args.data and hasattr(args, "discover"):
        return f"add --discover to this line: it prints {found}"
    line = ["cmiei discover"]
    line += [f"--{name} {getattr(args, name) or 'MODULE:FUNCTION'}" for name in ("model", "data")]
    same = [name for name in ("model-args", "forward", "inputs") if _given(args, name)]
    line += ["with the same", " and ".join(f"--{name}" for name in same)] if same else []
    return f"{' '.join(line)} prints {found}"


def _given(args: argparse.Namespace, name: str) -> bool:
    return bool(getattr(args, name.replace("-", "_"), None))


def make_directory(path: str | Path) -> None:
    """Make the directory of the output before there is anything to lose.

    Raises:
        CMIEIError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CMIEIError(
            f"the output directory {path} cannot be made",
            got=str(error),
            expected="a directory that can be written into",
            remedy="pass another one with --output",
        ) from error
