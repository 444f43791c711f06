"""What each setting may be: one check for each field of Config."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from ..errors import CMIEIError, ConfigError, SplitsError, did_you_mean
from ..functional import MEASURES

__all__ = ["CHECKS"]


def _refuse(
    field: str,
    value: object,
    expected: str,
    remedy: str = "",
    kind: type[CMIEIError] = ConfigError,
) -> CMIEIError:
    got = f"{value!r} ({type(value).__name__})"
    return kind(
        f"{field.upper()} cannot take this value",
        got=got,
        expected=expected,
        remedy=remedy,
    )


def _boolean(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(field, value, "True or False")
    return value


def _integer(least: int, *, optional: bool = False) -> Callable[[str, Any], int | None]:
    def check(field: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        try:
            number = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            number = None
        if number is None or number < least:
            none = " or null" if optional else ""
            raise _refuse(field, value, f"an integer >= {least}{none}")
        return number

    return check


def _number(most: float = math.inf) -> Callable[[str, Any], float]:
    expected = "a number >= 0" if most == math.inf else f"a number from 0 to {most:g}"

    def check(field: str, value: Any) -> float:
        if isinstance(value, str):
            raise _refuse(field, value, expected, _number_in_text(value))
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, RuntimeError):  # an array of several numbers, say
            number = math.nan
        if not 0 <= number <= most:  # NaN fails both
            raise _refuse(field, value, expected)
        return number

    return check


def _number_in_text(text: str) -> str:
    """What to write for a number that came as text."""
    try:
        number = float(text)
    except ValueError:
        return ""
    written = repr(number)
    if "e" in written and "." not in written:
        written = written.replace("e", ".0e")  # 1e-05 is text in YAML, 1.0e-05 is a number
    if isinstance(yaml.safe_load(text), float):
        return f"write the number without quotes: {written}"
    return f"YAML reads {text} as text: write {written}"


def _finite(check: Callable[[str, Any], float]) -> Callable[[str, Any], float]:
    def finite(field: str, value: Any) -> float:
        number = check(field, value)
        if math.isinf(number):
            raise _refuse(field, value, "a finite number >= 0")
        return number

    return finite


def _choice(*allowed: str) -> Callable[[str, Any], str]:
    def check(field: str, value: Any) -> str:
        if value not in allowed:
            guess = did_you_mean(value, allowed) if isinstance(value, str) else ""
            raise _refuse(field, value, " or ".join(map(repr, allowed)), guess)
        return str(value)

    return check


def _head(field: str, value: Any) -> str | tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        return value
    expected = "the name of a module, such as 'classifier', or the different names of a chain, "
    expected += "such as ['bottleneck', 'classifier']"
    links = list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else []
    named = all(isinstance(link, str) for link in links)
    if not links or not named or len(set(links)) < len(links):
        raise _refuse(field, value, expected)
    return links[0] if len(links) == 1 else tuple(links)


def _sequence(field: str, value: Any, expected: str) -> list[Any] | None:
    if value is None:
        return None
    # OmegaConf's list is a Sequence of its own; yacs hands over lists and tuples.
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _refuse(field, value, expected, kind=SplitsError)
    return list(value)


def _widths(field: str, value: Any) -> tuple[int, ...] | None:
    expected = "two or more integers >= 1, the width of each modality, such as [512, 512, 512]"
    widths = _sequence(field, value, expected)
    if widths is None:
        return None
    whole = [not isinstance(width, bool) and hasattr(width, "__index__") for width in widths]
    if len(widths) < 2 or not all(whole) or min(widths) < 1:
        hint = "the method compares modalities: give the width of each one in the head's input"
        raise _refuse(field, value, expected, hint, SplitsError)
    return tuple(operator.index(width) for width in widths)


def _names(field: str, value: Any) -> tuple[str, ...] | None:
    expected = "names that are text and all different, such as [r, n, t]"
    names = _sequence(field, value, expected)
    if names is None:
        return None
    if any(isinstance(name, bool) for name in names):
        hint = "YAML reads yes, no, on and off as truth values: put the name in quotes"
        raise _refuse(field, value, expected, hint, SplitsError)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise _refuse(field, value, expected, kind=SplitsError)
    return tuple(names)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "enabled": _boolean,
    "k": _integer(1),
    "sigma": _finite(_number()),
    "abs_thr": _number(),
    "rel_thr": _number(),
    "sample_level": _boolean,
    "p_max": _number(1.0),
    "warmup_epochs": _integer(0),
    "drop": _choice("zero", "mean"),
    "measure": _choice(*MEASURES),
    "first_epoch": _integer(0),
    "end_epoch": _integer(1, optional=True),
    "relative": _boolean,
    "seed": _integer(0, optional=True),
    "log_period": _integer(1),
    "inplace": _boolean,
    "sync": _boolean,
    "head": _head,
    "splits": _widths,
    "names": _names,
}
