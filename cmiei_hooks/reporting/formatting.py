"""Numbers and names as plain text. Each medium escapes the text in its own way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

__all__ = [
    "DASH",
    "count",
    "counted",
    "estimate",
    "finite",
    "in_points",
    "number",
    "p_value",
    "percent",
    "setting",
    "visible",
]

DASH = "\N{EN DASH}"
"""Shown for a value that is not known."""

# Control characters, line separators, marks that change the direction of the text around them,
# halves of surrogate pairs (file names hold any bytes), and what XML does not allow.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def visible(text: object) -> str:
    r"""One line in which nothing is hidden: control characters and the like become escapes.

    A name may come from anywhere. It must not move the cursor, colour the terminal, turn the text
    around it or end the line.

    Example:
        >>> visible("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], str(text))


def finite(value: object) -> float | None:
    """The number, or None for null, NaN, infinity and everything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: int) -> str:
    """A number of things, with separators: ``3,000``."""
    return f"{value:,}"


def counted(value: int, what: str) -> str:
    """A number of things and their name: ``1 sample``, ``3,000 samples``."""
    several = what.removesuffix("y") + "ies" if what.endswith("y") else f"{what}s"
    return f"{count(value)} {what if value == 1 else several}"


def number(value: object) -> str:
    """Four decimals, or an exponent where four decimals would say too little."""
    known = finite(value)
    if known is None:
        return DASH
    if known != 0 and not 5e-5 <= abs(known) < 1e4:
        return f"{known:.1e}" if abs(known) < 1 else f"{known:.4g}"
    return _unsigned(f"{known:.4f}")


def percent(value: object, decimals: int = 1) -> str:
    """A share in percent."""
    known = finite(value)
    return DASH if known is None else _unsigned(f"{known:.{decimals}%}")


def _unsigned(text: str) -> str:
    """The number without a minus sign if it was rounded to zero."""
    return text if text.strip("-0.%") else text.lstrip("-")


def in_points(value: object) -> str:
    """A difference of shares in percentage points, without the word: ``4.2``."""
    known = finite(value)
    return DASH if known is None else _unsigned(f"{100 * known:.1f}")


def p_value(value: object) -> str:
    """Three decimals. A p-value is never shown as zero."""
    known = finite(value)
    if known is None:
        return DASH
    return "< 0.001" if known < 0.001 else f"{known:.3f}"


def setting(value: object) -> str:
    """The value of a setting as it is written in YAML."""
    return "null" if value is None else str(value)


def estimate(
    mean: object, low: object = None, high: object = None, show: Callable[[object], str] = number
) -> str:
    """A mean with its interval, ``0.1877 [0.1712, 0.2031]``; the mean alone if there is none."""
    if any(finite(value) is None for value in (mean, low, high)):
        return show(mean)
    return f"{show(mean)} [{show(low)}, {show(high)}]"
