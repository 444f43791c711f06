"""What the records of all runs show together: the content of ``report.json``."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..reporting import finite
from ..settings import Config
from .arms import Arm, comparisons_of
from .intervals import ALPHA, NOT_SEEN, holm, paired, verdict
from .sanity import baseline, sanity
from .worker import Record

__all__ = ["Records", "plain_values", "summary"]

Records = Mapping[str, Mapping[int, Record]]
"""The records by the name of the arm and the seed."""

_NEITHER = ("CI ", "CI_", "Hist ", "Hist_")
"""Metrics that begin like this are neither better nor worse."""


def summary(
    records: Records,
    seeds: Sequence[int],
    config: Config,
    arms: Sequence[Arm],
    sensitivity: Sequence[Arm],
    lower: Collection[str],
) -> dict[str, Any]:
    """Checks, metrics, paired differences and curves, as plain values.

    Args:
        records: of all arms.
        seeds: of every arm except ``disabled``, which runs with the first one only.
        config: the user's settings in force.
        arms: those that ran, the plain and the inert one among them.
        sensitivity: those of them in which one setting is changed.
        lower: the metrics for which lower is better.
    """
    metrics = {
        arm.name: _metrics(records, arm.name, seeds) for arm in arms if arm.kind != "disabled"
    }
    names = dict.fromkeys(name for of_arm in metrics.values() for name in of_arm)
    better = _better(names, records["plain"][seeds[0]].metrics, lower)
    pairs = comparisons_of(arms)
    changed = [a.name for a in arms if a.name == "method" or a in sensitivity]
    silent = [name for name in ("disabled", "inert") if name in records]
    checks = [baseline(name, records["plain"], records[name]) for name in silent]
    if "method" in records:
        checks += sanity(records["method"], config)
    return {
        "config": config.to_dict(),
        "seeds": list(seeds),
        "arms": {
            arm.name: {
                "kind": arm.kind,
                "settings": dict(arm.settings),
                "strategy": arm.strategy,
                "seconds": statistics.fmean(r.seconds for r in records[arm.name].values()),
            }
            for arm in arms
        },
        "checks": [{"name": c.name, "passed": c.ok, "seen": c.found} for c in checks],
        "better": better,
        "metrics": {
            arm: {name: [finite(value) for value in values] for name, values in of_arm.items()}
            for arm, of_arm in metrics.items()
        },
        "comparisons": _corrected(_differences(pairs, metrics, better), better),
        "sensitivity": _differences(
            ((name, "plain") for name in changed if sensitivity), metrics, better
        ),
        "epochs": {
            arm.name: _curves(list(records[arm.name].values()))
            for arm in arms
            if arm.kind not in ("plain", "disabled")
        },
    }


def _better(
    metrics: Iterable[str], returned: Iterable[str], lower: Collection[str]
) -> dict[str, int]:
    """For each metric 1 if higher is better, -1 if lower is, 0 if neither is.

    Metrics that only the hook recorded are neither.
    """
    signs = {name: -1 if name in lower else 1 for name in returned}
    signs |= {name: 0 for name in signs if name.startswith(_NEITHER)}
    return dict.fromkeys(metrics, 0) | signs


def _metrics(records: Records, arm: str, seeds: Sequence[int]) -> dict[str, list[float]]:
    """The values of each metric, one for each seed: what the function returned, what the hook saw.

    For the plain arm the latter comes from the inert arm, which is the same training.
    """
    returned = [records[arm][seed].metrics for seed in seeds]
    watched = records["inert" if arm == "plain" else arm]
    seen = [_last_seen(watched[seed]) for seed in seeds]
    return {
        name: [values.get(name, math.nan) for values in of_seeds]
        for of_seeds in (returned, seen)
        for name in of_seeds[0]
    }


def _last_seen(record: Record) -> dict[str, float]:
    """What the hook saw in the last epoch with an estimate."""
    known = [e for e in record.epochs if math.isfinite(e.get("C_MIEI_Ratio", math.nan))]
    last = known[-1] if known else {}
    seen = {f"{k} in training": v for k, v in last.items() if k.startswith(("CI_", "Hist_"))}
    influence = [v for k, v in last.items() if k.startswith("CI_")]
    if influence:
        seen["CI inequality in training"] = _inequality(influence)
    return seen


def _inequality(influence: Sequence[float]) -> float:
    """Largest minus smallest, over the sum: 0 if all are equal, 1 if one has everything."""
    total = math.fsum(influence)
    return (max(influence) - min(influence)) / total if total > 0 else math.nan


def _differences(
    pairs: Iterable[tuple[str, str]],
    metrics: Mapping[str, Mapping[str, list[float]]],
    better: Mapping[str, int],
) -> list[dict[str, Any]]:
    differences = []
    for first, second in pairs:
        for metric, sign in better.items():
            if metric not in metrics[first] or metric not in metrics[second]:
                continue
            difference = paired(metrics[first][metric], metrics[second][metric])
            differences.append(
                {
                    "first": first,
                    "second": second,
                    "metric": metric,
                    **{key: finite(value) for key, value in asdict(difference).items()},
                    "n": difference.n,
                    "detectable": finite(difference.detectable),
                    "verdict": verdict(difference, sign),
                }
            )
    return differences


def _corrected(found: list[dict[str, Any]], better: Mapping[str, int]) -> list[dict[str, Any]]:
    """The differences with Holm's correction over all metrics that can be better or worse, and
    over all pairs of arms.
    """
    judged = [one for one in found if better[one["metric"]]]
    corrected = holm([math.nan if one["p"] is None else one["p"] for one in judged])
    for one, p in zip(judged, corrected, strict=True):
        one["p_holm"] = finite(p)
        one["verdict_holm"] = NOT_SEEN if p > ALPHA else one["verdict"]
    return found


def _curves(records: Sequence[Record]) -> list[dict[str, float | None]]:
    """Means over the seeds, epoch by epoch."""
    curves = []
    for epochs in zip(*(record.epochs for record in records), strict=False):
        means = {k: statistics.fmean(e.get(k, math.nan) for e in epochs) for k in epochs[0]}
        curves.append({key: finite(mean) for key, mean in means.items()})
    return curves


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold as it is, everything else (infinity too) as text."""
    plain = {}
    for key, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
            plain[key] = value
        except (TypeError, ValueError):
            plain[key] = str(value)
    return plain
