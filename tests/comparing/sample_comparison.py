"""Whole reports of comparisons, with everything that they can have, for what is shown."""

from __future__ import annotations

import math
from typing import Any

from cmiei_hooks.comparing import Comparison, ComparisonReport, Line
from cmiei_hooks.validation import Difference, verdict

_BETTER = {"accuracy": 1, "accuracy_without": 1, "accuracy_alone": 1}


def line(
    metric: str, modality: str | None, before: float, after: float, half: float, p_holm: float
) -> Line:
    mean = after - before
    found = Difference(mean, mean - half, mean + 1.2 * half, 719, 0.5 * p_holm)
    words = verdict(found, _BETTER.get(metric, 0))
    return Line(metric, modality, before, after, found, words, p_holm)


def lines(names: tuple[str, ...] = ("r", "n", "t"), gain: float = 1.0) -> tuple[Line, ...]:
    """The first modality gains for certain, the second perhaps, the third loses nothing."""
    k = dict(zip(names, range(len(names)), strict=True))
    return (
        line("accuracy", None, 0.9847, 0.9847 - 0.0028 * gain, 0.005, 0.9),
        *(
            line("accuracy_without", n, 0.943 + 0.01 * k[n], 0.968 + 0.001 * k[n], 0.011, p)
            for n, p in zip(names, (0.004, 0.21, 0.9), strict=True)
        ),
        *(line("accuracy_alone", n, 0.9 - 0.1 * k[n], 0.88, 0.02, 0.03) for n in names),
        *(line("influence", n, 0.19 - 0.05 * k[n], 0.09, 0.02, 0.004) for n in names),
        *(line("dominance", n, 0.5 - 0.15 * k[n], 0.4 - 0.1 * k[n], 0.06, 0.02) for n in names),
        *(line("shapley", n, 0.87 - 0.1 * k[n], 0.85 - 0.1 * k[n], 0.03, 0.9) for n in names),
    )


def sample(names: tuple[str, ...] = ("r", "n", "t"), **changes: Any) -> ComparisonReport:
    values: dict[str, Any] = {
        "reference": "plain",
        "comparisons": (Comparison("equalised", lines(names)),),
        "names": names,
        "drop": "zero",
        "measure": "kl",
        "n_samples": 719,
        "left_out": 2,
        "over": "samples",
        "runs": {"plain": ["runs/plain"], "equalised": ["runs/equalised"]},
        "notes": ("The audit plain is partial: it ended before all data was read.",),
        "environment": {
            "date": "2026-11-26",
            "command": "cmiei compare runs/plain runs/equalised",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "cmiei_hooks": "0.3.0"},
            "git": {"commit": "0123abcd", "branch": "main", "dirty": True},
            "seed": 0,
        },
    }
    return ComparisonReport(**{**values, **changes})


def unlabelled(comparison: Comparison) -> Comparison:
    kept = [one for one in comparison.lines if not one.metric.startswith("accuracy")]
    return Comparison(comparison.name, tuple(kept))


def unknown(one: Line) -> Line:
    """All pairs differ by the same: there is no interval."""
    found = Difference(one.difference.mean, math.nan, math.nan, 3, math.nan)
    return Line(one.metric, one.modality, one.reference, one.value, found, "not known", math.nan)
