"""The errors of this package. Each says what is wrong, what was got and expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CMIEIError",
    "CMIEIWarning",
    "CheckpointError",
    "ConfigError",
    "FailedWithoutError",
    "HeadError",
    "InputError",
    "OutputError",
    "SplitsError",
    "StateError",
    "UsageError",
    "ValidationError",
    "did_you_mean",
    "missing_extra",
    "relative_needs_samples",
]


class CMIEIError(ValueError):
    """Base of every error that this package raises on purpose.

    The message has a line for each of four parts: the problem, what was got, what was expected and
    the remedy. The parts are attributes too: ``problem``, ``got``, ``expected`` and ``remedy``. A
    part that does not apply is an empty string, and has no line.

    Example:
        >>> print(CMIEIError("K cannot take this value", got=0, expected="an integer >= 1"))
        K cannot take this value
          got:      0
          expected: an integer >= 1
    """

    def __init__(
        self, problem: str, *, got: object = "", expected: object = "", remedy: str = ""
    ) -> None:
        self.problem, self.remedy = problem, remedy
        self.got, self.expected = str(got), str(expected)
        parts = (("got", self.got), ("expected", self.expected), ("remedy", remedy))
        lines = [f"  {label + ':':<10}{text}" for label, text in parts if text]
        super().__init__("\n".join([problem, *lines]))

    def at(self, where: str) -> CMIEIError:
        """The same error, with where it was found in front of the problem."""
        return _rebuild(
            type(self), f"{where}: {self.problem}", self.got, self.expected, self.remedy
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes pickle their errors. The default would lose the keyword arguments.
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
    """A setting or an argument is unknown, of the wrong type, out of range or contradictory."""


class HeadError(CMIEIError):
    """The fusion head cannot be found, hooked or run again."""


class FailedWithoutError(HeadError):
    """The head fails where some of its modalities are replaced. The cause is what it raised."""


class SplitsError(CMIEIError):
    """The description of the modalities is wrong, or does not fit the head."""


class InputError(CMIEIError):
    """An input does not have what is needed: a call of the head, a batch or a tensor."""


class OutputError(CMIEIError):
    """The output of the head has no logits of shape ``[B, C]``."""


class StateError(CMIEIError):
    """A saved state is not one of this attachment, or there is none."""


class CheckpointError(CMIEIError):
    """A model, checkpoint, data loader or file of saved features cannot be used."""


class UsageError(CMIEIError):
    """The command line is wrong."""


class ValidationError(CMIEIError):
    """A training function, metric or data set of a validation cannot be used."""


class CMIEIWarning(UserWarning):
    """A problem that the user must know about, but that does not stop training. Given once."""


def missing_extra(
    extra: str, problem: str, reason: ImportError, error: type[CMIEIError] = CMIEIError
) -> CMIEIError:
    """The refusal of what needs a library of an extra that is not installed."""
    return error(
        problem,
        got=str(reason),
        expected=f"the extra [{extra}]",
        remedy=f"pip install 'cmiei-hooks[{extra}]'",
    )


def relative_needs_samples() -> ConfigError:
    """The refusal of RELATIVE at batch level, where every modality equals its own mean."""
    return ConfigError(
        "RELATIVE compares the samples of a batch",
        got="SAMPLE_LEVEL False",
        expected="SAMPLE_LEVEL True",
        remedy="leave one of the two out",
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest known words, or an empty string."""
    known = list(known)
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=3, cutoff=0.6)
    quoted = " or ".join(repr(folded[name]) for name in close)
    return f"did you mean {quoted}?" if quoted else ""
