"""All runs of a validation, in the order in which they depend on each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..auditing import import_function
from ..errors import ValidationError, did_you_mean
from ..fusion import refuse_misfit
from ..reporting import git_state, versions
from ..settings import Config
from .arms import INERT, PLAIN, Arm, Length, arms_of, refuse_settings, sensitivity_of
from .summary import plain_values, summary
from .worker import Record, Run, run_all, sources_of, workers

__all__ = ["Experiment", "validate"]

SCHEMA_VERSION = 1
_DISABLED = Arm("disabled", "disabled")


@dataclass(frozen=True)
class Experiment:
    """What is trained, with which settings and seeds."""

    train: str
    """``module:function``, called with ``attach``, a seed and the overrides."""
    overrides: Mapping[str, Any]
    """Further arguments of the function."""
    settings: Mapping[str, Any]
    """Settings of C-MIEI by lower-case name; they override those of the training function."""
    seeds: Sequence[int]
    lower: Collection[str] = ()
    """The metrics for which lower is better."""
    sensitivity: bool = True
    """Whether there are runs that change one setting at a time."""


def validate(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    jobs: int = 1,
    progress: Callable[[int], Callable[[Run], None]] = lambda total: lambda run: None,
) -> dict[str, Any]:
    """Do the runs that are not recorded yet, and compare all of them.

    Args:
        experiment: what to run.
        directory: where the records are kept; a run that is recorded there is not repeated.
        jobs: the number of processes.
        progress: called with the number of runs in a stage; what it returns is called with each
            run that is done.

    Returns:
        The report: plain values, as in ``report.json`` (``docs/validation.md``).

    Raises:
        ValidationError, CheckpointError: the training function cannot be used.
        ConfigError: a setting cannot be used.

    Example:
        >>> experiment = Experiment("pkg.module:train", {"epochs": 20}, {"k": 1}, seeds=range(5))
        >>> report = validate(experiment, "runs/validation", jobs=2)
        >>> report["comparisons"][0]["verdict"]
        'better'
    """
    runs = Path(directory).absolute() / "runs"  # now: what is imported or run may change directory
    sources = sources_of(experiment.train, experiment.overrides)
    _refuse_arguments(experiment)
    _arms(experiment, Config(enabled=True).override(**experiment.settings), Length(0, 10, 1000))
    threads = max(torch.get_num_threads() // jobs, 1)
    records: dict[str, dict[int, Record]] = {}

    def run(arm: Arm, seed: int) -> Run:
        counts = tuple(records[arm.follows][seed].counts) if arm.follows else ()
        e = experiment
        return Run(e.train, e.overrides, e.settings, arm, seed, counts, sources, threads)

    def stage(pool: Executor, arms: Iterable[Arm], seeds: Sequence[int]) -> None:
        wanted = [run(arm, seed) for arm in arms for seed in seeds]
        for (name, seed), record in run_all(wanted, runs, pool, progress(len(wanted))).items():
            records.setdefault(name, {})[seed] = record

    with workers(jobs) as pool:
        stage(pool, [PLAIN], experiment.seeds)
        one = records["plain"][experiment.seeds[0]]
        config = Config.load(one.config)
        _refuse_lower(experiment, one)
        stage(pool, [INERT], experiment.seeds)
        length = records["inert"][experiment.seeds[0]].length
        arms, sensitivity = _arms(experiment, config, length)
        stage(pool, [_DISABLED], experiment.seeds[:1])
        stage(pool, [a for a in (*arms, *sensitivity) if not a.follows], experiment.seeds)
        stage(pool, [arm for arm in arms if arm.follows], experiment.seeds)
    arms = [PLAIN, _DISABLED, INERT, *arms, *sensitivity]
    return {
        "schema_version": SCHEMA_VERSION,
        "train": experiment.train,
        "overrides": plain_values(experiment.overrides),
        "settings": plain_values(experiment.settings),
        **summary(records, experiment.seeds, config, arms, sensitivity, experiment.lower),
        "environment": {
            "versions": versions(),
            "git": git_state(),
            "threads": threads,
            "files": list(sources),
        },
    }


def _arms(experiment: Experiment, config: Config, length: Length) -> tuple[list[Arm], list[Arm]]:
    """The arms besides the plain, disabled and inert ones, and those that change one setting.

    Raises:
        ConfigError: the settings of an arm cannot be used.
    """
    arms = arms_of(config, length)
    sensitivity = sensitivity_of(config) if experiment.sensitivity else []
    refuse_settings(config, [*arms, *sensitivity])
    return arms, sensitivity


def _refuse_arguments(experiment: Experiment) -> None:
    """Refuse arguments that the training function does not take."""
    function = import_function(experiment.train)
    refuse_misfit(
        function,
        ((None, 0), dict(experiment.overrides)),
        ValidationError,
        f"{experiment.train} cannot be called with attach, a seed and these arguments",
        got=", ".join(experiment.overrides) or "no further arguments",
        remedy="write a function train(attach, seed, ...), and pass the rest with --args",
    )


def _refuse_lower(experiment: Experiment, record: Record) -> None:
    """Refuse names of metrics that the training function does not return."""
    for name in experiment.lower:
        if name not in record.metrics:
            raise ValidationError(
                f"there is no metric {name!r}",
                got=repr(name),
                expected=f"some of {', '.join(record.metrics)}",
                remedy=did_you_mean(name, record.metrics) or "name a metric of the function",
            )
