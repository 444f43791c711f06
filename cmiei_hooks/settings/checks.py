"""The checks that settings are built from: what a value may be, in words and as a function; and
the refusal of two answers to one question.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CMIEIError, ConfigError, SplitsError, did_you_mean
from .yaml import is_number

__all__ = [
    "BOOLEAN",
    "FILL",
    "MODULE",
    "NAMES",
    "WIDTHS",
    "Allowed",
    "CheckError",
    "choice",
    "integer",
    "number",
    "refuse_both",
]


class CheckError(Exception):
    """A value fails its check. The message is a remedy, or empty."""


@dataclass(frozen=True)
class Allowed:
    """What a setting may be."""

    expected: str
    """The allowed values in words, for errors and the documentation."""
    convert: Callable[[Any], Any]
    """Returns the value as the plain type of the setting, or raises ``CheckError``."""
    error: type[CMIEIError] = ConfigError
    words: tuple[str, ...] = ()
    """All allowed values, if the setting is a choice of words."""


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CheckError
    return value


def integer(least: int, *, optional: bool = False) -> Allowed:
    """An integer from ``least`` on; with ``optional`` also None."""

    def convert(value: Any) -> int | None:
        if value is None and optional:
            return None
        try:
            whole = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            whole = None
        if whole is None or whole < least:
            raise CheckError
        return whole

    return Allowed(f"an integer >= {least}" + (" or null" if optional else ""), convert)


def number(
    most: float = math.inf, *, finite: bool = False, least: float = 0, optional: bool = False
) -> Allowed:
    """A number from ``least`` to ``most``; infinity is allowed unless ``finite``; with ``optional``
    also None.
    """

    def convert(value: Any) -> float | None:
        if value is None and optional:
            return None
        try:
            real = math.nan if isinstance(value, bool) else float(value)
        except (ArithmeticError, RuntimeError, TypeError, ValueError):  # an array, a huge integer
            real = math.nan
        if not least <= real <= most or (finite and math.isinf(real)):  # NaN fails the comparison
            raise CheckError
        if isinstance(value, str):
            raise CheckError(_as_number(value, real))
        return real

    if most < math.inf:
        return Allowed(f"a number from 0 to {most:g}" + (" or null" if optional else ""), convert)
    bound = "" if math.isinf(least) else f" >= {least:g}"
    return Allowed(("a finite number" if finite else "a number") + bound, convert)


def _as_number(text: str, real: float) -> str:
    """How to write a number that came as text."""
    written = ".inf" if math.isinf(real) else repr(real)
    if "e" in written and "." not in written:
        written = written.replace("e", ".0e")  # 1e-05 is text in YAML, 1.0e-05 is a number
    if is_number(text):
        return f"write the number without quotes: {written}"
    return f"YAML reads {text} as text: write {written}"


def choice(*allowed: str, optional: bool = False) -> Allowed:
    """One of several words; with ``optional`` also None."""

    def convert(value: Any) -> str | None:
        if value is None and optional:
            return None
        if not isinstance(value, str):
            raise CheckError
        if value not in allowed:
            raise CheckError(did_you_mean(value, allowed))
        return str(value)

    expected = "one of " + ", ".join(map(repr, allowed)) + (" or null" if optional else "")
    return Allowed(expected, convert, words=allowed)


def _module(value: Any) -> str | tuple[str, ...] | dict[str, str] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _branches(value)
    links = list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else []
    named = all(isinstance(link, str) for link in links)
    if not links or not named:
        raise CheckError("take the names from model.named_modules()")
    if links[0] in links[1:]:
        raise CheckError("begin the chain with a module that comes in it once")
    return links[0] if len(links) == 1 else tuple(links)


def _branches(value: Mapping[Any, Any]) -> dict[str, str]:
    if any(isinstance(name, bool) for name in value):
        raise CheckError("YAML reads yes, no, on and off as truth values: put the name in quotes")
    named = all(isinstance(name, str) and name for pair in value.items() for name in pair)
    if len(value) < 2 or not named:
        raise CheckError("name two or more modalities, and for each the module of its logits")
    return dict(value)


def _is_list(value: Any) -> bool:
    # OmegaConf's list is a Sequence of its own; yacs hands over lists and tuples.
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _widths(value: Any) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    widths = list(value) if _is_list(value) else []
    known = [width for width in widths if width is not None]
    whole = [not isinstance(width, bool) and hasattr(width, "__index__") for width in known]
    if len(widths) < 2 or not all(whole) or min(known, default=0) < 1:
        raise CheckError("give the width of each modality in the head's input")
    if len(known) < len(widths) - 1:
        raise CheckError("only one width can be the rest: give the others")
    return tuple(None if width is None else operator.index(width) for width in widths)


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = list(value) if _is_list(value) else []
    if any(isinstance(name, bool) for name in names):
        raise CheckError("YAML reads yes, no, on and off as truth values: put the name in quotes")
    named = all(isinstance(name, str) and name for name in names)
    if not _is_list(value) or not named or len(set(names)) < len(names):
        raise CheckError
    return tuple(names)


def _fill(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value:
        raise CheckError("name the modality and its pad id: {'text': 0}")
    if any(isinstance(name, bool) for name in value):
        raise CheckError("YAML reads yes, no, on and off as truth values: put the name in quotes")
    whole = all(not isinstance(v, bool) and hasattr(v, "__index__") for v in value.values())
    if not whole or not all(isinstance(name, str) and name for name in value):
        raise CheckError("the value is a whole number, such as a pad id")
    return {name: operator.index(number) for name, number in value.items()}


BOOLEAN = Allowed("True or False", _boolean)
MODULE = Allowed(
    "the name of a module, such as 'classifier'; the names of a chain, such as ['bottleneck', "
    "'classifier'], between modules also functions, such as 'torch.relu'; or a branch for each "
    "modality, such as {'rgb': 'clf_rgb', 'depth': 'clf_depth'}",
    _module,
)
WIDTHS = Allowed(
    "two or more integers >= 1, the width of each modality, such as [512, 512, 512]; null in the "
    "place of one of them stands for the rest",
    _widths,
    SplitsError,
)
FILL = Allowed("a whole number for one or more modalities, such as {'text': 0}", _fill)
NAMES = Allowed("non-empty names, all different, such as [r, n, t]", _names, SplitsError)


def refuse_both(splits: object, modalities: object) -> None:
    """Refuse two answers to where the modalities are.

    Raises:
        SplitsError: both are given.
    """
    if splits is not None and modalities is not None:
        raise SplitsError(
            "splits= and modalities= both say where the modalities are",
            got=f"splits {splits!r}, modalities {modalities!r}",
            expected="splits for one concatenated tensor, or modalities for anything else",
            remedy="leave one of them out",
        )
