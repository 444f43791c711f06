"""The options of ``cmiei diagnose``, and what their words mean."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ..errors import CMIEIError, ConfigError
from ..settings import SECTION, Config, choices, parse_value

__all__ = [
    "add_arguments",
    "add_head_arguments",
    "add_setting_arguments",
    "columns",
    "configuration",
    "integer",
    "keys",
    "make_directory",
    "overrides",
    "pair",
    "widths",
    "words",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; with none of them the demo's own model is audited."""
    model = parser.add_argument_group(
        "what is audited", "Without these the model of the demo is audited."
    )
    model.add_argument("--model", metavar="MODULE:FUNCTION", help="returns the model, untrained")
    model.add_argument(
        "--model-args",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="keyword argument of that function (YAML value); may be given several times",
    )
    model.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="its weights: .pth, .pt or .safetensors, or a directory of them, one for each epoch",
    )
    model.add_argument(
        "--weights",
        metavar="NAME",
        help="which weights of the checkpoint: a top-level key or a prefix, such as ema",
    )
    model.add_argument(
        "--data", metavar="MODULE:FUNCTION", help="returns batches: inputs, or (inputs, labels)"
    )
    add_head_arguments(model)
    run = parser.add_argument_group("how it is run")
    run.add_argument(
        "--training-branch",
        action="store_true",
        help="run the branch 'if self.training', for models that skip their head in eval mode; "
        "nothing is updated, and dropout is off",
    )
    run.add_argument(
        "--features-head",
        action="store_true",
        help="audit a head that returns features, from which the model computes its output by more "
        "layers; without it such a head is refused",
    )
    run.add_argument(
        "--forward",
        metavar="MODULE:FUNCTION",
        help="forward(model, batch) runs the model on one batch, for models that need more than "
        "columns of it",
    )
    run.add_argument(
        "--inputs",
        type=columns,
        metavar="COLUMN[,COLUMN...]",
        help="indices or keys of the columns of a batch that the model is called with, in order",
    )
    run.add_argument(
        "--labels", type=_place, metavar="COLUMN", help="index or key of the labels in a batch"
    )
    run.add_argument(
        "--group-by", type=_place, metavar="COLUMN", help="index or key of a group, such as camera"
    )
    run.add_argument("--limit", type=_count, metavar="N", help="stop after about N samples")
    run.add_argument("--device", default="auto", help="such as cuda:1 (auto: cuda, if any)")
    run.add_argument("--amp", action="store_true", help="run under autocast")
    run.add_argument("--seed", type=integer, help="seed of permutations and intervals (SEED, or 0)")
    run.add_argument(
        "--save-features", metavar="FILE", help="write what the head receives to this file"
    )
    run.add_argument(
        "--features", metavar="FILE", help="audit the head alone, over a file of --save-features"
    )
    settings = parser.add_argument_group("settings")
    add_setting_arguments(settings)
    out = parser.add_argument_group("what comes out")
    out.add_argument(
        "--output", default="runs/audit", metavar="DIR", help="where the report goes (runs/audit)"
    )
    out.add_argument(
        "--fail-above",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="exit with 1 if the mean influence of this modality is larger",
    )
    out.add_argument(
        "--fail-share",
        type=_share,
        metavar="SHARE",
        help="exit with 1 if a modality dominates more than this share of the samples",
    )


def add_head_arguments(group: argparse._ArgumentGroup) -> None:
    """Where the head is, and which part of its input is which modality."""
    group.add_argument(
        "--head",
        type=_head,
        metavar="NAME[,NAME...]",
        help="fusion head, as in model.named_modules(); several names are a chain; with the "
        "modalities the branches that give their logits: rgb=clf_rgb,depth=clf_depth",
    )
    group.add_argument(
        "--combine",
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
        type=_yaml,
        metavar="YAML",
        help="instead of --splits, where each modality is in the arguments of the head: "
        "'{r: [0, 3], n: [1, 4], t: [2, 5]}'",
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
        type=widths,
        metavar="NAME=ID,...",
        help="pad id that takes the place of a modality of token ids: text=0",
    )
    group.add_argument(
        "--names", type=words, metavar="N,N,...", help="names of the modalities: r,n,t"
    )


def add_setting_arguments(group: argparse._ArgumentGroup) -> None:
    """The settings, and trailing ``KEY VALUE``."""
    group.add_argument("--config", metavar="YAML", help="file with a section MODEL.C_MIEI")
    group.add_argument(
        "--drop", choices=choices(Config, "drop"), help="baseline for a modality (zero)"
    )
    group.add_argument(
        "--measure", choices=choices(Config, "measure"), help="measure of influence (kl)"
    )
    group.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings that override all others: ABS_THR 0.05 REL_THR 1.5",
    )


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


def configuration(args: argparse.Namespace) -> Config:
    """The settings in force: the file, then the options, then the trailing ``KEY VALUE``.

    Raises:
        CMIEIError: a setting is unknown or out of range.
        argparse.ArgumentError: a key has no value.
    """
    options = ("drop", "measure", "head", "combine", "splits", "names", "fill", "seed")
    given = {name: getattr(args, name, None) for name in options}
    if ":" in (given["combine"] or ""):
        given["combine"] = None  # a function, which the command imports
    base = Config() if args.config is None else Config.load(args.config)
    known = {name: value for name, value in given.items() if value is not None}
    return base.override(**known).override(**overrides(args.opts))


def overrides(opts: list[str]) -> dict[str, Any]:
    """Trailing ``KEY VALUE`` as fields of Config by their lower-case names."""
    if len(opts) % 2:
        raise argparse.ArgumentError(None, f"{opts[-1]!r} has no value (KEY VALUE ...)")
    settings = {}
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        name = key.removeprefix(".".join(SECTION) + ".")
        if name != name.upper():
            raise ConfigError(
                f"unknown setting {key!r}",
                got=repr(key),
                expected="a key of the configuration in capitals, such as ABS_THR",
                remedy=f"write {name.upper()}",
            )
        try:
            settings[name.lower()] = parse_value(value)
        except ConfigError as error:
            raise error.at(name) from None
    return settings


def pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a YAML value."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, _yaml(value)


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if math.isnan(limit):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not NAME=VALUE with a number")
    return name, limit


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a share from 0 to 1")
    return share


def _count(text: str) -> int:
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of samples, 1 or more")
    return number


def _place(text: str) -> int | str:
    return integer(text) if text.lstrip("-").isdecimal() else text


def integer(text: str) -> int:
    """A whole number of at most 18 digits, which every part of torch can take."""
    try:
        if len(text) > _MOST_DIGITS:
            raise ValueError(text)
        return int(text)
    except ValueError:
        problem = f"{text[:80]!r} is not a whole number of at most {_MOST_DIGITS} digits"
        raise argparse.ArgumentTypeError(problem) from None


_MOST_DIGITS = 18


def columns(text: str) -> tuple[int | str, ...]:
    """``0,image``: indices and keys."""
    return tuple(_place(word) for word in words(text))


def widths(text: str) -> list[int | None] | dict[str, int | None]:
    """``512,512,512`` or ``audio=32,video=48``; ``null`` is the rest."""
    pairs = [word.rpartition("=") for word in words(text)]
    try:
        numbers = [None if width.strip() == "null" else int(width) for _, _, width in pairs]
    except ValueError:
        numbers = []
    names = [name.strip() for name, _, _ in pairs]
    if numbers and not any(equals for _, equals, _ in pairs):
        return numbers
    if not numbers or not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not a list of widths such as 512,512,512 or audio=32,video=48"
        )
    return dict(zip(names, numbers, strict=True))


def _head(text: str) -> list[str] | dict[str, str]:
    """``NAME,NAME``, or ``MODALITY=NAME,MODALITY=NAME``."""
    pairs = [word.partition("=") for word in words(text)]
    if not any(equals for _, equals, _ in pairs):
        return words(text)
    named = {modality.strip(): name.strip() for modality, _, name in pairs}
    if len(named) < len(pairs) or not all(equals for _, equals, _ in pairs):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not a branch for each modality, such as rgb=clf_rgb,depth=clf_depth"
        )
    return named


def words(text: str) -> list[str]:
    """``A,B,C``."""
    return [word.strip() for word in text.split(",")]


def keys(text: str) -> Any:
    """One YAML value, or a list of them without brackets: ``1,0`` is ``[1, 0]``."""
    value = _yaml(text)
    bare = isinstance(value, str) and "," in value and text.strip()[0] not in "\"'"
    return [_yaml(word) for word in words(text)] if bare else value


def _yaml(text: str) -> Any:
    try:
        return parse_value(text)
    except ConfigError:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} cannot be read as YAML") from None
