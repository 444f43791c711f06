"""All runs of a validation, in the order in which they need each other, and what follows."""

from __future__ import annotations

import inspect
import json
import math
import os
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..auditing import import_function
from ..errors import ValidationError, did_you_mean
from ..reporting import git_state, versions
from ..settings import Config
from .arms import COMPARISONS, Arm, arms_of, sensitivity_of
from .intervals import Difference, paired, verdict
from .sanity import baseline, sanity
from .worker import Record, Run, run_all, sources_of, workers

__all__ = ["Experiment", "validate"]

SCHEMA_VERSION = 1
_NEITHER = ("CI ", "CI_", "Hist ", "Hist_")
_PLAIN, _DISABLED = Arm("plain", "plain"), Arm("disabled", "disabled")


@dataclass(frozen=True)
class Experiment:
    """What is compared with what."""

    train: str
    """``module:function``, called with ``attach``, a seed and the overrides."""
    overrides: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Of C-MIEI, by lower-case name; they win over those of the training function."""
    seeds: Sequence[int]
    lower: Collection[str] = ()
    """Metrics of which less is better."""
    sensitivity: bool = True


def validate(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    jobs: int = 1,
    progress: Callable[[int], Callable[[Run], None]] = lambda total: lambda run: None,
) -> dict[str, Any]:
    """Run what has not been run yet and put the figures together.

    Args:
        experiment: the runs.
        directory: where their records are kept; those of equal runs are not repeated.
        jobs: processes at a time.
        progress: called with how many runs a stage has; what it returns, with every run.

    Returns:
        The report: plain values, as in ``report.json`` (``docs/validation.md``).

    Raises:
        ValidationError, CheckpointError: the training function cannot be used.
    """
    sources = sources_of(experiment.train, experiment.overrides)
    _refuse_arguments(experiment)
    records: dict[str, dict[int, Record]] = {}
    threads = max(torch.get_num_threads() // jobs, 1)

    def run(arm: Arm, seed: int) -> Run:
        counts = tuple(records[arm.follows][seed].counts) if arm.follows else ()
        e = experiment
        return Run(e.train, e.overrides, e.settings, arm, seed, counts, sources, threads)

    def stage(pool: Executor, wanted: Iterable[Arm], seeds: Sequence[int]) -> None:
        runs = [run(arm, seed) for arm in wanted for seed in seeds]
        found = run_all(runs, Path(directory) / "runs", pool, progress(len(runs)))
        for (name, seed), record in found.items():
            records.setdefault(name, {})[seed] = record

    with workers(jobs) as pool:
        stage(pool, [_PLAIN], experiment.seeds)
        one = records["plain"][experiment.seeds[0]]
        config = Config(**{key.lower(): value for key, value in one.config.items()})
        _refuse_names(experiment, one)
        others = arms_of(config, int(one.epochs[0]["epoch"]), len(one.epochs))
        tried = sensitivity_of(config) if experiment.sensitivity else []
        stage(pool, [_DISABLED], experiment.seeds[:1])
        stage(pool, [arm for arm in (*others, *tried) if not arm.follows], experiment.seeds)
        stage(pool, [arm for arm in others if arm.follows], experiment.seeds)
    arms = [_PLAIN, _DISABLED, *others, *tried]
    report = _report(experiment, config, arms, [arm.name for arm in tried], records)
    report["environment"] |= {"threads": threads, "files": list(sources)}
    return report


def _refuse_arguments(experiment: Experiment) -> None:
    """Refuse, before anything runs, arguments that the function does not take."""
    function = import_function(experiment.train)
    try:
        inspect.signature(function).bind(None, 0, **experiment.overrides)
    except TypeError as error:
        raise ValidationError(
            f"{experiment.train} cannot be called with attach, a seed and these arguments",
            got=f"{', '.join(experiment.overrides) or 'no further ones'}: {error}",
            expected=f"{getattr(function, '__name__', '')}{inspect.signature(function)}",
            remedy="write train(attach, seed, ...), and --args for what follows",
        ) from None


def _refuse_names(experiment: Experiment, record: Record) -> None:
    """Refuse what can be known to be wrong after the plain runs."""
    if not record.epochs:
        raise ValidationError(
            "the training function never called set_epoch",
            got="no epoch",
            expected="handle.set_epoch(epoch) at the start of every epoch",
            remedy="without it the warm-up would never end",
        )
    for name in experiment.lower:
        if name not in record.metrics:
            raise ValidationError(
                f"there is no metric {name!r}",
                got=repr(name),
                expected=f"some of {', '.join(record.metrics)}",
                remedy=did_you_mean(name, record.metrics) or "name a metric of the function",
            )


def _report(
    experiment: Experiment,
    config: Config,
    arms: Sequence[Arm],
    tried: Sequence[str],
    records: Mapping[str, Mapping[int, Record]],
) -> dict[str, Any]:
    seeds = list(experiment.seeds)
    figures = {arm.name: _figures(records, arm.name, seeds) for arm in arms if arm is not _DISABLED}
    names = list(records["plain"][seeds[0]].metrics)
    better = dict.fromkeys(figures["method"], 0)
    better.update({name: -1 if name in experiment.lower else 1 for name in names})
    better.update({name: 0 for name in names if name.startswith(_NEITHER)})
    pairs = [pair for pair in COMPARISONS if set(pair) <= figures.keys()]
    checks = [
        baseline("disabled", records["plain"], records["disabled"]),
        baseline("inert", records["plain"], records["inert"]),
        *sanity(records["method"], config),
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "train": experiment.train,
        "overrides": _written(experiment.overrides),
        "settings": _written(experiment.settings),
        "config": config.to_dict(),
        "seeds": seeds,
        "arms": {
            arm.name: {
                "kind": arm.kind,
                "settings": dict(arm.settings),
                "seconds": statistics.fmean(r.seconds for r in records[arm.name].values()),
            }
            for arm in arms
        },
        "checks": [asdict(check) for check in checks],
        "better": better,
        "metrics": {
            name: {metric: _finite(values) for metric, values in found.items()}
            for name, found in figures.items()
        },
        "comparisons": _compared(pairs, figures, better),
        "sensitivity": _compared([(arm, "plain") for arm in ("method", *tried)], figures, better),
        "epochs": {
            arm.name: _curves(list(records[arm.name].values()))
            for arm in arms
            if arm.kind not in ("plain", "disabled")
        },
        "environment": {"versions": versions(), "git": git_state()},
    }


def _figures(
    records: Mapping[str, Mapping[int, Record]], arm: str, seeds: Sequence[int]
) -> dict[str, list[float]]:
    """By metric, for each seed. What the hook saw in the last epoch of the plain run is what it saw
    when it was inert, which is the same training.
    """
    metrics = [records[arm][seed].metrics for seed in seeds]
    watched = "inert" if arm == "plain" else arm
    seen = [_last(records[watched][seed]) for seed in seeds]
    return {
        **{name: [m.get(name, math.nan) for m in metrics] for name in metrics[0]},
        **{name: [s.get(name, math.nan) for s in seen] for name in seen[0]},
    }


def _last(record: Record) -> dict[str, float]:
    """What the hook saw in the last epoch in which it measured."""
    last = next(
        (e for e in reversed(record.epochs) if math.isfinite(e.get("C_MIEI_Ratio", math.nan))), {}
    )
    seen = {f"{k} in training": v for k, v in last.items() if k.startswith(("CI_", "Hist_"))}
    influence = [v for k, v in last.items() if k.startswith("CI_")]
    if influence:
        seen["CI inequality in training"] = _inequality(influence)
    return seen


def _inequality(influence: Sequence[float]) -> float:
    """Largest minus smallest, over the sum: 0 if all are equal, 1 if one has everything."""
    total = math.fsum(influence)
    return (max(influence) - min(influence)) / total if total > 0 else math.nan


def _compared(
    pairs: Iterable[tuple[str, str]],
    figures: Mapping[str, Mapping[str, list[float]]],
    better: Mapping[str, int],
) -> list[dict[str, Any]]:
    found = []
    for first, second in pairs:
        for metric, sign in better.items():
            one, other = figures[first].get(metric), figures[second].get(metric)
            if one is None or other is None:
                continue
            difference = paired(one, other)
            found.append(
                {
                    "first": first,
                    "second": second,
                    "metric": metric,
                    **_plain(difference),
                    "verdict": verdict(difference, sign),
                }
            )
    return found


def _curves(records: Sequence[Record]) -> list[dict[str, float | None]]:
    """Means over the seeds, epoch by epoch."""
    shortest = min(len(record.epochs) for record in records)
    curves = []
    for i in range(shortest):
        rows = [record.epochs[i] for record in records]
        means = {key: statistics.fmean(row.get(key, math.nan) for row in rows) for key in rows[0]}
        curves.append({key: v if math.isfinite(v) else None for key, v in means.items()})
    return curves


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as they are, others (infinity too) as text."""
    plain = {}
    for key, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
            plain[key] = value
        except (TypeError, ValueError):
            plain[key] = str(value)
    return plain


def _plain(difference: Difference) -> dict[str, float | int | None]:
    return {
        key: value if math.isfinite(value) else None for key, value in asdict(difference).items()
    }


def _finite(values: Iterable[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
