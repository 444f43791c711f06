"""One run, in a worker process, and its record on disk: what was done is not done again."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..auditing import import_function
from ..errors import CMIEIError, ValidationError
from ..reporting import sha256, versions, write_files
from .arms import Arm
from .recorder import Recorder

__all__ = ["Record", "Run", "run_all", "sources_of", "workers"]


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
    sources: tuple[str, ...] = ()
    """Digests of the files that the result depends on (``sources_of``)."""
    threads: int = 1
    """Of torch: how many there are changes the order of sums."""

    @property
    def key(self) -> str:
        """Another one for whatever is known to change the result."""
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


def sources_of(train: str, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Digests of the file of a training function and of files that its arguments name."""
    files = [inspect.getsourcefile(inspect.unwrap(import_function(train)))]
    files += [str(value) for value in overrides.values() if isinstance(value, (str, Path))]
    return tuple(sha256(file) for file in files if file and Path(file).is_file())


@contextmanager
def workers(jobs: int) -> Iterator[Executor]:
    """Processes that are started when the first run needs them."""
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (list(sys.path),))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin(path: list[str]) -> None:
    sys.path[:] = path


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
            waiting[pool.submit(_execute, run, directory)] = run
        else:
            records[run.arm.name, run.seed] = record
            done(run)
    for future in as_completed(waiting):
        run = waiting[future]
        records[run.arm.name, run.seed] = future.result()
        done(run)
    return records


def _execute(run: Run, directory: Path) -> Record:
    """Done and written, so that nothing is lost if another run fails."""
    try:
        record = _record(run)
    except CMIEIError:
        raise
    except Exception as error:  # of the user's code; not every exception can be pickled
        traceback.print_exc()
        raise ValidationError(
            f"the training raised an error in the run {run.arm.name!r} with seed {run.seed}",
            got=f"{type(error).__name__}: {error}",
            expected="metrics",
            remedy="the traceback is above; runs that are done are kept",
        ) from None
    write_files(directory, {run.file: json.dumps(asdict(record)) + "\n"})  # NaN stays NaN
    return record


def _record(run: Run) -> Record:
    torch.set_num_threads(run.threads)
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
    metrics, wrong = {}, "" if isinstance(returned, Mapping) and returned else repr(returned)[:200]
    for name, value in returned.items() if not wrong else ():
        try:
            metrics[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):  # an array of several numbers, say
            wrong = f"{name!r}: {value!r}"[:200]
    if wrong:
        raise ValidationError(
            f"{train} returned no metrics, or something else among them",
            got=wrong,
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
