"""All runs of a validation: which arms run, with which seeds, and what they show together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..auditing import import_function
from ..errors import ValidationError, did_you_mean
from ..fusion import refuse_misfit
from ..reporting import git_state, today, versions
from ..settings import Config
from .arms import (
    INERT,
    PLAIN,
    Arm,
    Length,
    arms_of,
    own_arms,
    refuse_settings,
    refuse_too_short,
    sensitivity_of,
    why_missing,
)
from .executors import local_processes
from .peer_names import read_peer
from .run_queue import Progress, RunQueue
from .sanity import refuse_idle
from .summary import plain_values, summary
from .worker import Record, Run, sources_of

__all__ = ["USUAL", "Experiment", "validate"]

SCHEMA_VERSION = 1
USUAL = ("plain", "inert", "method", "random")
"""The arms that run if nobody says otherwise."""
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
    arms: Collection[str] | None = USUAL
    """The names of the arms; None: all. The plain and the inert arm run in any case, and so does
    the arm that one of these follows."""
    sensitivity: bool = True
    """Whether all arms include those that change one setting at a time."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Arms of the user's own, which run in any case: for each name the ``module:function`` of a
    ``make(config, noise)``, as for ``attach(..., strategy=make)``."""


def validate(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    jobs: int = 1,
    progress: Callable[[Progress], None] = lambda progress: None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Do the runs that are not recorded yet, and compare all of them.

    Args:
        experiment: what to run.
        directory: where the records are kept; a run that is recorded there is not repeated.
        jobs: the number of processes. The GPUs of this machine are shared out to them.
        progress: called before the first run; when the number of runs and the time that they take
            are known, which is after the first one or two; and then with each run that is done.
        executor: does the runs in place of processes of this machine; it is not shut down.

    Returns:
        The report: plain values, as in ``report.json`` (``docs/reference/validation.md``).

    Raises:
        ValidationError, CheckpointError: the training function, an arm or the executor cannot be
            used, or an arm would never act.
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
    guess = Config(enabled=True).override(**experiment.settings)
    names = _named(experiment, guess)
    refuse_settings(guess, _every_arm(guess, _GUESS))
    total = sum(1 if name == _DISABLED.name else len(experiment.seeds) for name in names)
    progress(Progress(names, len(experiment.seeds), 0, total, None, math.nan))
    threads = max(torch.get_num_threads() // jobs, 1)

    def run(arm: Arm, seed: int, followed: Record | None) -> Run:
        counts = tuple(followed.counts) if followed else ()
        e = experiment
        files = sources_of(e.train, e.overrides, arm.strategy) if arm.strategy else sources
        return Run(e.train, e.overrides, e.settings, arm, seed, counts, files, threads)

    with local_processes(jobs) if executor is None else nullcontext(executor) as pool:
        queue = RunQueue(run, runs, pool, jobs if executor is None else None)
        config, arms = _first_runs(experiment, queue)
        _all_runs(experiment, queue, arms, progress)
    changed = [arm for arm in arms if arm in sensitivity_of(config)]
    return {
        "schema_version": SCHEMA_VERSION,
        "train": experiment.train,
        "overrides": plain_values(experiment.overrides),
        "settings": plain_values(experiment.settings),
        **summary(queue.records, experiment.seeds, config, arms, changed, experiment.lower),
        "environment": {
            "date": today(),
            "versions": versions(),
            "git": git_state(),
            "threads": threads,
            "files": list(sources),
        },
    }


def _first_runs(experiment: Experiment, queue: RunQueue) -> tuple[Config, list[Arm]]:
    """What must be known before all the others run: the settings in force, and the arms.

    Raises:
        ValidationError: a metric or an arm is unknown, or an arm would never act.
        ConfigError: the settings of an arm cannot be used.
    """
    seed = experiment.seeds[0]
    queue.do([(PLAIN, seed)])
    seen = queue.records["plain"][seed]
    config = Config.load(seen.config)
    _refuse_lower(experiment, seen)
    # The plain arm counts no steps, and knows the epochs only where they are told.
    if not seen.length.epochs or (config.warmup_steps, config.end_step) != (None, None):
        queue.do([(INERT, seed)])
        seen = queue.records["inert"][seed]
    arms = _chosen(experiment, config, seen.length)
    refuse_settings(config, arms)
    for arm in arms:
        if arm.kind == "attached" and arm != INERT:
            refuse_idle(arm.name, seen, config.override(**arm.settings))
    return config, arms


def _all_runs(
    experiment: Experiment,
    queue: RunQueue,
    arms: Sequence[Arm],
    progress: Callable[[Progress], None],
) -> None:
    """Do all runs, and say how far they are."""
    seeds, first = experiment.seeds, experiment.seeds[:1]
    wanted = [(arm, s) for arm in arms for s in (first if arm == _DISABLED else seeds)]
    names = [arm.name for arm in arms]

    def said(run: Run | None) -> None:
        done, total = queue.done, len(wanted)
        left = queue.seconds(total - done)
        progress(Progress(names, len(seeds), done, total, run, left))

    queue.do(wanted, said)


_GUESS = Length(0, 10, 1000)
"""A training that nobody has seen yet."""


def _every_arm(
    config: Config, length: Length, sensitivity: bool = True, names: Collection[str] = ()
) -> list[Arm]:
    """All arms of a training; those that change one setting are the last."""
    arms = [PLAIN, _DISABLED, INERT, *arms_of(config, length, names)]
    return [*arms, *(sensitivity_of(config) if sensitivity else ())]


def _chosen(experiment: Experiment, config: Config, length: Length) -> list[Arm]:
    """The arms of the experiment, in the order of the report.

    Raises:
        ValidationError: this training has no arm of this name.
    """
    own = own_arms(experiment.own)
    if experiment.arms is None:
        return [*_every_arm(config, length, experiment.sensitivity), *own]
    every = _every_arm(config, length, names=experiment.arms)
    for name in experiment.arms:
        if name not in {arm.name for arm in every}:
            refuse_too_short(name, config, length)
            raise _no_arm(name, every, "this training has", why_missing(name, config))
    wanted = _wanted(experiment.arms, every)
    return [*(arm for arm in every if arm.name in wanted), *own]


def _wanted(names: Collection[str], every: Iterable[Arm]) -> set[str]:
    """The names of the arms that run if these are asked for."""
    wanted = {PLAIN.name, INERT.name, *names}
    return wanted | {arm.follows for arm in every if arm.name in wanted and arm.follows}


def _named(experiment: Experiment, guess: Config) -> list[str]:
    """The names of the arms, if they are known before the first run; otherwise none.

    Raises:
        ValidationError: no arm has this name, whatever the settings of the training function are.
    """
    ended = guess if guess.end_step is not None else guess.override(end_epoch=10**6)
    names = experiment.arms or ()
    every = [*_every_arm(guess, _GUESS, names=names), *_every_arm(ended, _GUESS, sensitivity=False)]
    known = dict.fromkeys(arm.name for arm in every)
    own_arms(experiment.own, known)
    settings = {arm.name.partition(" ")[0] for arm in sensitivity_of(guess)}
    for name in names:
        if not (name in known or name.partition(" ")[0] in settings or read_peer(name)):
            raise _no_arm(name, every, "there are")
    if experiment.arms is None:
        return []
    wanted = _wanted(names, every)
    return [*(name for name in (known | dict.fromkeys(names)) if name in wanted), *experiment.own]


def _no_arm(name: str, arms: Sequence[Arm], which: str, why: str = "") -> ValidationError:
    known = list(dict.fromkeys(arm.name for arm in arms))
    return ValidationError(
        f"this training has no arm {name!r}" if why else f"there is no arm {name!r}",
        got=why or repr(name),
        expected=f"one of those that {which}: {', '.join(known)}",
        remedy=did_you_mean(name, known) or "name one of these, or pass --full for all of them",
    )


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
