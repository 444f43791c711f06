"""One run, in a process of its own, and its record on disk: what was done is not done again."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..audit.environment import versions
from ..audit.loading import import_function
from ..errors import ValidationError
from .arms import Arm
from .recording import Recorder

__all__ = ["Record", "Run", "run_all", "workers"]


@dataclass(frozen=True)
class Run:
    """What is to be done."""

    train: str
    """``module:function``."""
    overrides: Mapping[str, Any]
    """Further arguments of the function."""
    settings: Mapping[str, Any]
    """Of C-MIEI; those of the arm win."""
    arm: Arm
    seed: int
    counts: tuple[int, ...] = ()
    """What a control follows."""

    @property
    def key(self) -> str:
        """Another one for whatever may change the result, but for the user's own code."""
        content = {**asdict(self), "versions": versions()}
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def file(self) -> str:
        """The name of its record."""
        name = "".join(c if c.isalnum() else "-" for c in self.arm.name)
        return f"{name}-seed{self.seed}.json"


@dataclass(frozen=True)
class Record:
    """What a run gave."""

    key: str
    metrics: Mapping[str, float]
    """As the training function returned them."""
    epochs: list[dict[str, float]]
    """``epoch`` and, where something was measured, the figures of ``Handle.metrics``."""
    counts: list[int]
    """Samples replaced, by training-mode call of the head."""
    config: Mapping[str, Any]
    """The settings in force."""
    digest: str
    """Of the trained weights and the final state of the random generator."""
    seconds: float = field(compare=False, default=math.nan)


@contextmanager
def workers(jobs: int) -> Iterator[Executor]:
    """Processes that share the cores; started when the first run needs them."""
    threads = max(torch.get_num_threads() // jobs, 1)
    spawn = get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, _begin, (threads, list(sys.path)))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin(threads: int, path: list[str]) -> None:
    sys.path[:] = path
    torch.set_num_threads(threads)


def run_all(
    runs: Sequence[Run], directory: Path, pool: Executor, done: Callable[[Run], None]
) -> dict[tuple[str, int], Record]:
    """The records by arm and seed; those that lie in the directory are read.

    Args:
        runs: in no particular order.
        directory: of the records.
        pool: does the others.
        done: called with each run that is there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    records, waiting = {}, {}
    for run in runs:
        record = _read(directory / run.file, run.key)
        if record is None:
            waiting[pool.submit(_execute, run)] = run
        else:
            records[run.arm.name, run.seed] = record
            done(run)
    for future in as_completed(waiting):
        run = waiting[future]
        record = records[run.arm.name, run.seed] = future.result()
        _write(directory / run.file, record)
        done(run)
    return records


def _execute(run: Run) -> Record:
    recorder = Recorder(run.arm, run.settings, run.counts, run.seed)
    train = import_function(run.train)
    start = time.perf_counter()
    returned = train(recorder, run.seed, **run.overrides)
    seconds = time.perf_counter() - start
    digest = recorder.digest()
    recorder.note()
    config = {} if recorder.config is None else recorder.config.to_dict()
    return Record(
        run.key,
        _metrics(returned, run.train),
        recorder.epochs,
        recorder.counts,
        config,
        digest,
        seconds,
    )


def _metrics(returned: Any, train: str) -> dict[str, float]:
    try:
        metrics = {str(name): float(value) for name, value in returned.items()}
    except (AttributeError, TypeError, ValueError):
        metrics = {}
    if not metrics:
        raise ValidationError(
            f"{train} returned no metrics",
            got=repr(returned)[:200],
            expected="a dict from names to numbers, such as {'accuracy': 0.93}",
            remedy="return what the runs are to be compared by",
        )
    return metrics


def _read(path: Path, key: str) -> Record | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**content)
    except (OSError, ValueError, TypeError):  # not there, or broken off
        return None
    return record if record.key == key else None


def _write(path: Path, record: Record) -> None:
    new = path.with_suffix(".part")
    new.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")  # NaN stays NaN
    new.replace(path)
