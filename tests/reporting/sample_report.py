"""A whole report with every part that it can have, for the tests of its forms."""

from __future__ import annotations

import math
from typing import Any

HOSTILE = (
    '<script>alert("x")</script>',
    "a|b `c` [d](http://e) @f & *g* 'h'\n# i",
    "x" * 500,
    "W\u00e4rme \u71b1 \u202e\x00\ud800",
)


def around(mean: float, spread: float = 0.1) -> dict[str, float]:
    return {"mean": mean, "low": mean - abs(mean) * spread, "high": mean + abs(mean) * spread}


def sample(names: tuple[str, ...] = ("r", "n", "t")) -> dict[str, Any]:
    """Plausible figures; modality k always has less influence than the ones before it."""
    order = range(len(names))
    influence = {n: around(0.1877 / (1 + 0.7 * k)) for k, n in enumerate(names)}
    shares = {n: 2 ** (len(names) - k - 1) / (2 ** len(names) - 1) for k, n in enumerate(names)}
    means = {n: f["mean"] for n, f in influence.items()}
    edges = [0.025 * i for i in range(21)]
    pairs = [(a, b) for a in order for b in order if a < b]
    return {
        "schema_version": 1,
        "head": "classifier",
        "names": list(names),
        "splits": [512] * len(names),
        "drop": "zero",
        "measure": "kl",
        "unit": "nats",
        "n_samples": 3000,
        "non_finite": 2,
        "partial": False,
        "influence": influence,
        "dominance": {n: around(share, 0.05) for n, share in shares.items()},
        "triggered": around(0.6423, 0.03),
        "thresholds": {"ABS_THR": 0.03, "REL_THR": 1.25},
        "interval": {
            "level": 0.95,
            "method": "percentile bootstrap",
            "draws": 1000,
            "over": "samples",
        },
        "accuracy": around(0.9847, 0.005),
        "accuracy_without": {n: around(0.9147 + 0.0217 * k, 0.01) for k, n in enumerate(names)},
        "accuracy_alone": {n: around(0.7231 - 0.0619 * k, 0.02) for k, n in enumerate(names)},
        "shapley": {n: around(0.5123 - 0.1131 * k) for k, n in enumerate(names)},
        "shapley_total": around(1.1977),
        "interactions": [
            {"pair": [names[a], names[b]], **around(0.0713 - 0.0457 * (a + b), 0.4)}
            for a, b in pairs
        ],
        "shapley_accuracy": {n: around(0.3341 - 0.0231 * k) for k, n in enumerate(names)},
        "interactions_accuracy": [
            {"pair": [names[a], names[b]], **around(-0.0219 * (a + b))} for a, b in pairs
        ],
        "baselines": {
            kind: {n: around(means[n] * factor) for n in names}
            for kind, factor in (("zero", 1.0), ("mean", 0.83), ("permuted", 1.31))
        },
        "agreement": [
            {"pair": ["zero", "mean"], "same_dominant": around(0.8912), "rank_correlation": 0.9317},
            {"pair": ["zero", "permuted"], "same_dominant": around(0.77), "rank_correlation": 0.8},
        ],
        "null": {
            n: {**around(0.0815 + 0.01 * k, 0.3), "p": 0.002 + 0.41 * k}
            for k, n in enumerate(names)
        },
        "strata": {
            "class": [stratum(str(i), names, i) for i in range(171)],
            "camera": [stratum(f"c{i}", names, i) for i in range(4)],
        },
        "what_if": [
            {
                "ABS_THR": abs_thr,
                "REL_THR": rel_thr,
                "P_MAX": p_max,
                "triggered": (rate := math.exp(-4 * abs_thr - 0.4 * rel_thr)),
                "substituted": min(rate, p_max),
                "shares": shares,
            }
            for abs_thr in (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
            for rel_thr in (1.0, 1.1, 1.25, 1.5, 2.0)
            for p_max in (0.1, 0.25, 0.5, 1.0)
        ],
        "suggestion": {
            "ABS_THR": 0.05,
            "REL_THR": 1.5,
            "P_MAX": 0.25,
            "reason": "About a third of the samples would be triggered.",
        },
        "histograms": {
            n: {
                "edges": edges,
                "counts": [int(900 * math.exp(-i * (k + 1) / 4)) for i in range(len(edges) + 1)],
            }
            for k, n in enumerate(names)
        },
        "trend": [
            {
                "checkpoint": f"epoch_{10 * (i + 1)}.pth",
                "influence": {
                    n: means[n] * (0.3 + 0.1 * i + 0.03 * k * i) for k, n in enumerate(names)
                },
                "dominance": shares,
                "accuracy": None if i == 2 else 0.81 + 0.03 * i,
            }
            for i in range(6)
        ],
        "checkpoint": {
            "path": "runs/best.pth",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "loaded": 297,
            "missing": [f"aux.{i}.weight" for i in range(18)],
            "unexpected": [],
            "mismatched": ["old_head.weight"],
        },
        "environment": {
            "command": "cmiei diagnose --model pkg.module:factory --checkpoint best.pth "
            "--data pkg.module:make_loader --head classifier --splits 512,512,512 --names r,n,t",
            "config": {"ABS_THR": 0.03, "REL_THR": 1.25, "P_MAX": 0.5, "END_EPOCH": None},
            "versions": {"python": "3.11.7", "torch": "2.13.0", "cmiei_hooks": "0.3.0"},
            "git": {"commit": "0123abcd", "branch": "main", "dirty": True},
            "device": "cpu",
            "seed": 0,
            "processes": 1,
        },
    }


def stratum(value: str, names: tuple[str, ...], i: int) -> dict[str, Any]:
    return {
        "value": value,
        "n": 12 + i,
        "influence": {n: 0.31 / (k + 1) - 0.001 * i for k, n in enumerate(names)},
        "dominance": {n: (0.9 if k == 0 else 0.1 / (len(names) - 1)) for k, n in enumerate(names)},
        "inequality": 0.47 - 0.002 * i,
    }
