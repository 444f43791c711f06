"""The values of options: what their words mean. Each refusal says what to write instead."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CMIEIError, ConfigError, did_you_mean
from ..function_name import parse_function
from ..settings import parse_value

__all__ = [
    "columns",
    "combination",
    "count",
    "function",
    "head",
    "integer",
    "keys",
    "limit",
    "one_of",
    "pad_ids",
    "pair",
    "place",
    "refused",
    "share",
    "together",
    "widths",
    "words",
    "yaml",
]

_LONGEST = 80
"""Longer values are cut in errors."""

_MOST_DIGITS = 18


def refused(problem: str, text: str, expected: str, remedy: str) -> Exception:
    """The refusal of the value of an option; ``write ...`` in the remedy gets the option's name."""
    error = CMIEIError(problem, got=repr(text[:_LONGEST]), expected=expected, remedy=remedy)
    return argparse.ArgumentTypeError(str(error))


def integer(text: str) -> int:
    """A whole number of at most 18 digits, which every part of torch can take."""
    try:
        if len(text) > _MOST_DIGITS:
            raise ValueError(text)
        return int(text)
    except ValueError:
        expected = f"a whole number of at most {_MOST_DIGITS} digits"
        meant = _float(text.replace(",", "")) if len(text) <= _MOST_DIGITS else math.nan
        remedy = f"write {meant:.0f}" if meant.is_integer() else "use digits alone, such as 3"
        raise refused("not a whole number", text, expected, remedy) from None


def count(text: str) -> int:
    """A number of samples."""
    number = integer(text)
    if number < 1:
        raise refused("not a number of samples", text, "1 or more", "leave it out for all samples")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = _float(text)
    if not 0 <= number <= 1:
        percent = _float(text.rstrip("%")) / 100
        remedy = f"write {percent:g}" if 0 <= percent <= 1 else "write 0.8 for 80 %"
        raise refused("not a share", text, "a number from 0 to 1, such as 0.8", remedy)
    return number


def limit(text: str) -> tuple[str, float]:
    """``NAME=VALUE``."""
    name, _, value = text.rpartition("=")
    number = _float(value)
    if not name or math.isnan(number):
        expected = "the name of a modality and a number: NAME=VALUE, such as audio=0.5"
        remedy = f"write {name or 'NAME'}=0.5 with the name of a modality and your number"
        raise refused("not a limit", text, expected, remedy)
    return name, number


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def place(text: str) -> int | str:
    """An index or a key."""
    return integer(text) if text.lstrip("-").isdecimal() else text


def columns(text: str) -> tuple[int | str, ...]:
    """``0,image``: indices and keys."""
    return tuple(place(word) for word in words(text))


def words(text: str) -> list[str]:
    """``A,B,C``."""
    if re.fullmatch(r"\s*(\[[^][]*\]|\([^()]*\))\s*", text):
        bare = ",".join(word.strip(" '\"") for word in text.strip(" ()[]").split(","))
        raise refused("a list has no brackets here", text, "A,B,C", f"write {bare}")
    return [word.strip() for word in text.split(",")]


def widths(text: str) -> list[int | None] | dict[str, int | None]:
    """``512,512,512`` or ``audio=32,video=48``; ``null`` is the rest."""
    found = _numbers(text)
    if found is None:
        expected = "a width for each modality: 512,512,512, or audio=32,video=48"
        meant = [one for one in _meant(text) if len(_numbers(one) or ()) > 1]
        remedy = f"write {meant[0]}" if meant else "cmiei discover prints the widths of a model"
        raise refused("not a list of widths", text, expected, remedy)
    return found


def pad_ids(text: str) -> dict[str, int | None]:
    """``text=0``: what takes the place of token ids."""
    found = _numbers(text)
    if not isinstance(found, dict):
        expected = "the name of each modality of token ids, and its pad id: text=0"
        meant = [one for one in _meant(text) if isinstance(_numbers(one), dict)]
        remedy = f"write {meant[0]}" if meant else "write NAME=ID with the name of the modality"
        raise refused("not a list of pad ids", text, expected, remedy)
    return found


def _numbers(text: str) -> list[int | None] | dict[str, int | None] | None:
    """Whole numbers, or a dict of them; None if the text is neither."""
    pairs = [word.rpartition("=") for word in text.split(",")]
    try:
        numbers = [None if width.strip() == "null" else int(width) for _, _, width in pairs]
    except ValueError:
        return None
    names = [name.strip() for name, _, _ in pairs]
    if not any(equals for _, equals, _ in pairs):
        return numbers
    if not all(names) or len(set(names)) < len(names):
        return None
    return dict(zip(names, numbers, strict=True))


def _meant(text: str) -> list[str]:
    """What may be meant by ``[32, 48]``, ``32 48``, ``32x48``, ``{audio: 32, video: 48}``."""
    inner = re.sub(r"\s*[:=]\s*", "=", text.strip(" []{}()"))
    parts = [part for part in re.split(r"[,;\s]+", inner) if part]
    return [",".join(parts), ",".join(re.split(r"[x*+/|-]", inner))]


def head(text: str) -> list[str] | dict[str, str]:
    """``NAME,NAME``, or ``MODALITY=NAME,MODALITY=NAME``."""
    names = words(text)
    pairs = [word.partition("=") for word in names]
    if not any(equals for _, equals, _ in pairs):
        return names
    named = {modality.strip(): name.strip() for modality, _, name in pairs}
    if len(named) < len(pairs) or not all(equals for _, equals, _ in pairs):
        expected = "one branch for each modality: rgb=clf_rgb,depth=clf_depth; or names of a chain"
        remedy = "name each modality once, as MODALITY=NAME; or use names alone, for a chain"
        raise refused("not a branch for each modality", text, expected, remedy)
    return named


def keys(text: str) -> Any:
    """One YAML value, or a list of them without brackets: ``1,0`` is ``[1, 0]``."""
    value = yaml(text)
    bare = isinstance(value, str) and "," in value and text.strip()[0] not in "\"'"
    return [yaml(word) for word in words(text)] if bare else value


def yaml(text: str) -> Any:
    """One YAML value."""
    try:
        return parse_value(text)
    except ConfigError as error:
        remedy = "put it into quotes, so that the shell leaves it as one word"
        raise refused("not a YAML value", text, error.expected, remedy) from None


def pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a YAML value."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        given, colon, after = text.partition(":")
        meant = f"{given.strip()}={after.strip()}" if colon and given.isidentifier() else ""
        remedy = f"write {meant or (key or 'KEY') + '=VALUE'}"
        expected = "KEY=VALUE, such as depth=3; the option is repeated for each"
        raise refused("not KEY=VALUE", text, expected, remedy)
    return key, yaml(value)


def together(text: str) -> tuple[str, tuple[int | str, ...]]:
    """``NAME=INPUT,INPUT``."""
    name, equals, inputs = text.partition("=")
    if not name or not equals or not inputs:
        expected = "a name and the inputs that are this modality: text=input_ids,attention_mask"
        given = f"{name}=INPUT,INPUT" if equals and name else f"NAME={inputs or name or 'INPUT'}"
        remedy = f"write {given} with names of yours"
        raise refused("not NAME=INPUT,INPUT", text, expected, remedy)
    return name, columns(inputs)


def function(text: str) -> str:
    """``MODULE:FUNCTION``."""
    try:
        parse_function(text)
    except CMIEIError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def combination(text: str) -> str:
    """``sum``, ``mean`` or ``MODULE:FUNCTION``."""
    return function(text) if ":" in text or "." in text or "/" in text else text


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """One of these words."""

    def choose(text: str) -> str:
        if text not in choices:
            remedy = did_you_mean(text, choices) or f"choose one of them, such as {choices[0]}"
            raise refused("not one of the choices", text, ", ".join(choices), remedy)
        return text

    return choose
