"""A whole report of an audit, with everything that it can have, for the tests of what is shown."""

from __future__ import annotations

import math
from typing import Any

from cmiei_hooks.auditing.bootstrap import Interval
from cmiei_hooks.auditing.checkpoint_loading import Loaded
from cmiei_hooks.auditing.report import AuditReport
from cmiei_hooks.auditing.results import Pair
from cmiei_hooks.auditing.thresholds import Suggestion, WhatIf


def around(mean: float, spread: float = 0.1) -> Interval:
    return Interval(mean, mean - abs(mean) * spread, mean + abs(mean) * spread)


def sample(names: tuple[str, ...] = ("r", "n", "t"), **changes: Any) -> AuditReport:
    """Plausible values; modality k always has less influence than the ones before it."""
    order = range(len(names))
    means = {n: 0.1877 / (1 + 0.7 * k) for k, n in enumerate(names)}
    shares = {n: 2 ** (len(names) - k - 1) / (2 ** len(names) - 1) for k, n in enumerate(names)}
    edges = [0.025 * i for i in range(21)]
    pairs = [(a, b) for a in order for b in order if a < b]
    values: dict[str, Any] = {
        "head": "classifier",
        "names": names,
        "splits": (512,) * len(names),
        "drop": "zero",
        "measure": "kl",
        "n_samples": 3000,
        "non_finite": 2,
        "partial": False,
        "interval_over": "samples",
        "influence": {n: around(mean) for n, mean in means.items()},
        "dominance": {n: around(share, 0.05) for n, share in shares.items()},
        "no_influence": Interval(0, 0, 0),
        "triggered": around(0.6423, 0.03),
        "thresholds": {"ABS_THR": 0.03, "REL_THR": 1.25, "P_MAX": 0.5},
        "null": {
            n: {
                "influence": means[n] * 0.91,
                "mean": 0.0815 + 0.01 * k,
                "low": 0.0571 + 0.01 * k,
                "high": 0.1061 + 0.01 * k,
                "p": (0.05, 0.1, 0.85)[k % 3],
                "n": 256,
            }
            for k, n in enumerate(names)
        },
        "baselines": {
            kind: {n: around(means[n] * factor) for n in names}
            for kind, factor in (("zero", 1.0), ("mean", 0.83), ("permuted", 1.31))
        },
        "agreement": (
            Pair(("zero", "mean"), around(0.8912), 0.9317),
            Pair(("zero", "permuted"), around(0.77), 0.8),
        ),
        "what_if": tuple(
            WhatIf(
                abs_thr,
                rel_thr,
                p_max,
                triggered=abs_thr + rel_thr / 10 + p_max / 50,
                shares=tuple(shares.values()),
                substituted=min(abs_thr + rel_thr / 10 + p_max / 50, p_max),
            )
            for abs_thr in (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
            for rel_thr in (1.0, 1.1, 1.25, 1.5, 2.0)
            for p_max in (0.1, 0.25, 0.5, 1.0)
        ),
        "suggestion": Suggestion(0.05, 1.5, 0.5, "about a third of the samples would be triggered"),
        "histograms": {
            n: {
                "edges": edges,
                "counts": [int(900 * math.exp(-i * (k + 1) / 4)) for i in range(len(edges) + 1)],
            }
            for k, n in enumerate(names)
        },
        "strata": {
            "class": [stratum(str(i), names, i) for i in range(171)],
            "camera": [stratum(f"c{i}", names, i) for i in range(4)],
        },
        "rows": ({"sample": 0, "batch": 0, "dominant": names[0], "triggered": 1},),
        "shapley": {n: around(0.5123 - 0.1131 * k) for k, n in enumerate(names)},
        "shapley_total": around(1.1977),
        "interactions": tuple(
            Pair((names[a], names[b]), around(0.0713 - 0.0457 * (a + b), 0.4)) for a, b in pairs
        ),
        "accuracy": around(0.9847, 0.005),
        "accuracy_without": {n: around(0.9147 + 0.0217 * k, 0.01) for k, n in enumerate(names)},
        "accuracy_loss": {n: around(0.07 - 0.0217 * k, 0.3) for k, n in enumerate(names)},
        "accuracy_none": around(0.0121),
        "changed_predictions": {n: around(0.0931 - 0.03 * k) for k, n in enumerate(names)},
        "shapley_accuracy_total": around(0.9726, 0.02),
        "accuracy_alone": {n: around(0.7231 - 0.0619 * k, 0.02) for k, n in enumerate(names)},
        "shapley_accuracy": {n: around(0.3341 - 0.0231 * k) for k, n in enumerate(names)},
        "interactions_accuracy": tuple(
            Pair((names[a], names[b]), around(-0.0219 * (a + b))) for a, b in pairs
        ),
        "trend": tuple(
            {
                "checkpoint": f"epoch_{10 * (i + 1)}.pth",
                "influence": {
                    n: means[n] * (0.3 + 0.1 * i + 0.03 * k * i) for k, n in enumerate(names)
                },
                "dominance": shares,
                "accuracy": None if i == 2 else 0.81 + 0.03 * i,
                "accuracy_loss": {n: 0.071 + 0.01 * i - 0.02 * k for k, n in enumerate(names)},
                "missing": 0,
                "mismatched": 0,
            }
            for i in range(6)
        ),
        "checkpoint": Loaded(
            "runs/best.pth",
            297,
            tuple(f"aux.{i}.weight" for i in range(18)),
            (),
            ("old_head.weight",),
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        "environment": {
            "command": "cmiei diagnose --model pkg.module:factory --checkpoint best.pth "
            "--data pkg.module:make_loader --head classifier --splits 512,512,512 --names r,n,t",
            "date": "2026-02-03",
            "config": {
                "ENABLED": False,
                "ABS_THR": 0.03,
                "REL_THR": 1.25,
                "P_MAX": 0.5,
                "END_EPOCH": None,
            },
            "versions": {"python": "3.11.7", "torch": "2.13.0", "cmiei_hooks": "0.3.0"},
            "git": {"commit": "0123abcd", "branch": "main", "dirty": True},
            "device": "cpu",
            "seed": 0,
            "processes": 1,
        },
    }
    return AuditReport(**{**values, **changes})


def stratum(value: str, names: tuple[str, ...], i: int) -> dict[str, Any]:
    return {
        "value": value,
        "n": 12 + i,
        "influence": {n: 0.31 / (k + 1) - 0.001 * i for k, n in enumerate(names)},
        "dominance": {n: (0.9 if k == 0 else 0.1 / (len(names) - 1)) for k, n in enumerate(names)},
        "interval": {n: [0.1, 0.2] for n in names},
        "inequality": 0.47 - 0.002 * i,
    }
