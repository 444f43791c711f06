"""Every refusal of this package: what is wrong, what was got, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CMIEIError",
    "CMIEIWarning",
    "CheckpointError",
    "ConfigError",
    "HeadError",
    "InputError",
    "OutputError",
    "SplitsError",
    "StateError",
    "ValidationError",
    "did_you_mean",
]


class CMIEIError(ValueError):
    """Base of every error that this package raises on purpose.

    The message has one line each for the problem, what was got, what was expected and the remedy;
    the same four parts are attributes (empty strings where a part does not apply).
    """

    def __init__(
        self, problem: str, *, got: object = "", expected: object = "", remedy: str = ""
    ) -> None:
        self.problem, self.remedy = problem, remedy
        self.got, self.expected = str(got), str(expected)
        parts = (("got", self.got), ("expected", self.expected), ("remedy", remedy))
        lines = [f"  {label + ':':<10}{text}" for label, text in parts if text]
        super().__init__("\n".join([problem, *lines]))

    def at(self, place: str) -> CMIEIError:
        """The same error, saying where it was found."""
        return _rebuild(
            type(self), f"{place}: {self.problem}", self.got, self.expected, self.remedy
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Errors of worker processes are pickled; by default without keyword arguments.
        return _rebuild, (
            type(self),
            self.problem,
            self.got,
            self.expected,
            self.remedy,
        )


def _rebuild(
    kind: type[CMIEIError], problem: str, got: str, expected: str, remedy: str
) -> CMIEIError:
    return kind(problem, got=got, expected=expected, remedy=remedy)


class ConfigError(CMIEIError):
    """A setting is unknown, of the wrong type or out of range."""


class HeadError(CMIEIError):
    """The fusion head cannot be found, or cannot be hooked."""


class SplitsError(CMIEIError):
    """The modalities (splits, names, dim) contradict each other or the head."""


class InputError(CMIEIError):
    """The head was called with something that does not hold the modalities."""


class OutputError(CMIEIError):
    """The head did not return logits of shape [B, C]."""


class StateError(CMIEIError):
    """A saved state does not belong to this attachment."""


class CheckpointError(CMIEIError):
    """A model, checkpoint or loader of an audit cannot be used."""


class ValidationError(CMIEIError):
    """A training function, task or data set of a validation cannot be used."""


class CMIEIWarning(UserWarning):
    """Something that does not stop training but that the user must know; given once."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest known words, or an empty string."""
    known = list(known)
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=3, cutoff=0.6)
    quoted = " or ".join(repr(folded[name]) for name in close)
    return f"did you mean {quoted}?" if quoted else ""
