"""One setting: a field of ``Config`` that carries its check and its description."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from .checks import Allowed, CheckError

__all__ = ["checked", "choices", "describe", "refusal", "setting"]

T = TypeVar("T")

_LONGEST = 200
"""Longer values are cut in errors."""


def setting(default: T, check: Allowed, text: str) -> T:
    """A field of a dataclass. ``text`` describes it in Markdown, for the documentation."""
    return dataclasses.field(default=default, metadata={"check": check, "text": text})


def checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value as the plain type of the setting.

    Raises:
        CMIEIError: the setting cannot take it.
    """
    check: Allowed = field.metadata["check"]
    try:
        return check.convert(value)
    except CheckError as error:
        raise check.error(
            refusal(field.name),
            got=f"{_shown(value)} ({type(value).__name__})",
            expected=check.expected,
            remedy=str(error) or f"the default is {field.default!r}",
        ) from None


def refusal(name: str) -> str:
    """The problem in the error that ``checked`` raises for the field of this name."""
    return f"{name.upper()} cannot take this value"


def describe(field: dataclasses.Field[Any]) -> tuple[str, str]:
    """What the setting may be, and what it means."""
    return field.metadata["check"].expected, field.metadata["text"]


def choices(settings: type[Any], name: str) -> tuple[str, ...]:
    """The words that a setting of this dataclass may be; none if it is not a choice of words."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    check: Allowed = fields[name].metadata["check"]
    return check.words


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write out integers of more than 4300 digits
        return "a huge number"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
