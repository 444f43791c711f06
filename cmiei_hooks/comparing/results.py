"""What a comparison found, and its plain form: the content of its report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..reporting import finite, plain
from ..units import UNITS
from ..validation import ALPHA, NOT_SEEN, Difference

__all__ = ["METRICS", "SCHEMA_VERSION", "Comparison", "Line", "Results"]

SCHEMA_VERSION = 1

METRICS = {
    "accuracy": 1,
    "accuracy_without": 1,
    "accuracy_alone": 1,
    "influence": 0,
    "dominance": 0,
    "shapley": 0,
}
"""What is compared: 1 if higher is better, 0 if neither is."""


@dataclass(frozen=True)
class Line:
    """One value, in the reference and in what is compared with it."""

    metric: str
    """``accuracy``, ``accuracy_without``, ``accuracy_alone`` (top-1), ``influence``, ``dominance``
    or ``shapley``, as in the report of an audit."""
    modality: str | None
    """None for ``accuracy``."""
    reference: float
    value: float
    difference: Difference
    """``value`` minus ``reference``, with its 95 % interval and p-value."""
    verdict: str
    """``better`` or ``worse`` (of accuracy), ``higher`` or ``lower``, ``no difference seen`` if the
    interval contains zero, ``not known`` if there is none."""
    p_holm: float
    """The p-value corrected for the number of lines in the report."""

    @property
    def seen(self) -> bool:
        """Whether the interval excludes zero."""
        return self.verdict != NOT_SEEN and not self.unknown

    @property
    def unknown(self) -> bool:
        """Whether there is no interval."""
        return self.verdict == "not known"

    @property
    def certain(self) -> bool:
        """Whether a difference is still seen after Holm's correction."""
        return self.seen and self.p_holm <= ALPHA

    def to_dict(self) -> dict[str, Any]:
        """The line for JSON."""
        found = self.difference
        return {
            "metric": self.metric,
            "modality": self.modality,
            "reference": finite(self.reference),
            "value": finite(self.value),
            "difference": finite(found.mean),
            "low": finite(found.low),
            "high": finite(found.high),
            "n": found.n,
            "verdict": self.verdict,
            "p": finite(found.p),
            "p_holm": finite(self.p_holm),
            "verdict_holm": self.verdict if self.certain or not self.seen else NOT_SEEN,
        }


@dataclass(frozen=True)
class Comparison:
    """One run, or group of runs, compared with the reference."""

    name: str
    lines: tuple[Line, ...]

    def of(self, metric: str) -> tuple[Line, ...]:
        """The lines of one metric."""
        return tuple(line for line in self.lines if line.metric == metric)


@dataclass(frozen=True)
class Results:
    """What differs between audits of the same samples; ``ComparisonReport`` shows and saves it."""

    reference: str
    """The name of what the others are compared with: the first one."""
    comparisons: tuple[Comparison, ...]
    names: tuple[str, ...]
    """Of the modalities."""
    drop: str
    measure: str
    n_samples: int
    """Samples with finite logits in all audits."""
    left_out: int
    """Samples without."""
    over: str
    """What the intervals are over: ``samples``, ``identities`` (all samples with one label), or
    ``runs`` (pairs of runs)."""
    runs: Mapping[str, Sequence[str]]
    """The audits by the name of their group: where each was saved, or its checkpoint."""
    notes: tuple[str, ...] = ()
    """What is left out or uncertain, and why."""
    environment: dict[str, Any] = field(default_factory=dict)
    """What is needed to repeat the comparison."""

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json; values that do not exist are null."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "reference": self.reference,
            "runs": {name: list(paths) for name, paths in self.runs.items()},
            "names": self.names,
            "drop": self.drop,
            "measure": self.measure,
            "unit": UNITS[self.measure],
            "n_samples": self.n_samples,
            "left_out": self.left_out,
            "notes": self.notes,
            "interval": {
                "level": 1 - ALPHA,
                "method": "Student's t" if self.over == "runs" else "BCa bootstrap",
                "over": self.over,
            },
            "comparisons": [
                {"name": one.name, "lines": [line.to_dict() for line in one.lines]}
                for one in self.comparisons
            ],
            "environment": self.environment,
        }
        return plain(content)  # type: ignore[no-any-return]  # a dict stays one
