"""The runs of a validation in an executor: each once, in their order, recorded in one directory."""

from __future__ import annotations

import math
import os
import statistics
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path

from ..errors import CMIEIError, CMIEIWarning, ValidationError
from .arms import Arm
from .worker import Record, Run, execute, keep, recorded

__all__ = ["Progress", "RunQueue"]


@dataclass(frozen=True)
class Progress:
    """How far a validation is."""

    arms: Sequence[str]
    """The names of all arms; none before the first run if its settings decide which there are."""
    seeds: int
    done: int
    """The number of runs whose records are there, those from before among them."""
    total: int
    """The number of all runs; 0 where the arms are not known yet."""
    run: Run | None
    """The run that was finished last; None before the first, and when the time that is left has
    just become known."""
    seconds: float
    """The estimated time that is left; NaN before the first run."""


class RunQueue:
    """Does runs, and keeps their records.

    Args:
        make: makes the run of an arm with a seed, from the record of the arm that it follows.
        directory: the absolute path of the records. A run that is recorded is not repeated; one
            whose record is damaged is, with a warning.
        pool: where the runs are executed. It may lose a run with a machine and do it again there.
        jobs: how many runs it executes at the same time; None if that is not known.
    """

    def __init__(
        self,
        make: Callable[[Arm, int, Record | None], Run],
        directory: Path,
        pool: Executor,
        jobs: int | None = None,
    ) -> None:
        self.records: dict[str, dict[int, Record]] = defaultdict(dict)
        """By the name of the arm and the seed."""
        self._make, self._directory, self._pool, self._jobs = make, directory, pool, jobs
        self._here = os.getcwd()
        self._begun, self._executed = time.monotonic(), 0.0
        self._damaged: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def done(self) -> int:
        """The number of records."""
        return sum(map(len, self.records.values()))

    def seconds(self, runs: int) -> float:
        """The estimated time for further runs, at the mean speed of those that are recorded."""
        known = [r.seconds for of_arm in self.records.values() for r in of_arm.values()]
        at_once = self._jobs or max(self._executed / (time.monotonic() - self._begun), 1)
        mean = statistics.fmean(known) if known else math.nan
        return mean * math.ceil(runs / at_once) if self._jobs else mean * runs / at_once

    def do(
        self, wanted: Iterable[tuple[Arm, int]], said: Callable[[Run | None], None] | None = None
    ) -> None:
        """Do runs that are not in ``records`` yet, each after the one that it follows.

        Args:
            wanted: arms and seeds, with all that these follow.
            said: called once with None, when it is known which of them are recorded, and then with
                each run that was executed.

        Raises:
            CMIEIError: of a run. Runs that have not begun are cancelled, what was done is kept.
        """
        say = said or (lambda run: None)
        waiting = _Waiting(wanted, self.records)
        missing = self._missing(waiting)
        running: dict[Future[Record], Run] = {}
        say(None)
        try:
            while missing or running:
                running |= {self._submit(run): run for run in missing}
                for run, record in self._finished(running):
                    self.records[run.arm.name][run.seed] = record
                    waiting.release(run)
                    say(run)
                missing = self._missing(waiting)
        except BaseException:
            self._abandon(running)
            raise

    def _missing(self, waiting: _Waiting) -> list[Run]:
        """The runs that may begin and are not recorded. The records of the others are read."""
        missing, damaged = [], []
        while waiting.ready:
            arm, seed = waiting.ready.popleft()
            run = self._make(arm, seed, self.records[arm.follows][seed] if arm.follows else None)
            try:
                record = recorded(self._directory / run.file, run.key)
            except ValueError:
                record = None
                damaged.append(run.file)
            if record is None:
                missing.append(run)
            else:
                self.records[arm.name][seed] = record
                waiting.release(run)
        if damaged:
            message = f"records in {self._directory} are damaged, so their runs are repeated: "
            warnings.warn(message + ", ".join(damaged), CMIEIWarning, stacklevel=3)
        return missing

    def _submit(self, run: Run) -> Future[Record]:
        try:
            return self._pool.submit(execute, run, self._directory, self._here)
        except RuntimeError as error:  # the executor has broken meanwhile
            raise _lost(run, error) from error

    def _finished(self, running: dict[Future[Record], Run]) -> Iterator[tuple[Run, Record]]:
        """Wait for runs, and write their records.

        No future outlives this: Dask would do a finished run again if its machine is lost.
        """
        done = wait(running, return_when=FIRST_COMPLETED).done
        while done:
            future = done.pop()
            run = running.pop(future)
            try:
                record = future.result()
            except CMIEIError:
                raise
            except Exception as error:  # of the executor: a worker that was killed, say
                raise _lost(run, error) from error
            finally:
                del future
            self._accept(run, record)
            yield run, record

    def _accept(self, run: Run, record: Record) -> None:
        if record.key != run.key:
            raise ValidationError(
                f"the run {run.arm.name!r} with seed {run.seed} was executed with other versions",
                got="a record that does not belong to this run",
                expected="the same versions of Python, torch and cmiei_hooks as here",
                remedy="install the same versions on every worker",
            )
        self._executed += record.seconds
        self._keep(run, record)

    def _keep(self, run: Run, record: Record) -> None:
        """Write the record, unless the worker has written it into the same directory."""
        try:
            if recorded(self._directory / run.file, run.key) is not None:
                return
        except ValueError:
            pass
        keep(run, record, self._directory)

    def _abandon(self, running: dict[Future[Record], Run]) -> None:
        """Begin no further run; keep the records of those that are done meanwhile."""
        for future in running:
            future.cancel()
        for future, run in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                record = future.result()
                if record.key == run.key:
                    self._keep(run, record)


class _Waiting:
    """Arms and seeds whose runs have not begun.

    Args:
        wanted: all of them.
        records: those that are done already, by the name of the arm and the seed.
    """

    def __init__(
        self, wanted: Iterable[tuple[Arm, int]], records: Mapping[str, Mapping[int, Record]]
    ) -> None:
        self.ready: deque[tuple[Arm, int]] = deque()
        """Those that need not wait for another run."""
        self._following: dict[tuple[str, int], list[Arm]] = defaultdict(list)
        for arm, seed in wanted:
            if seed in records.get(arm.name, ()):
                continue
            if arm.follows is None or seed in records.get(arm.follows, ()):
                self.ready.append((arm, seed))
            else:
                self._following[arm.follows, seed].append(arm)

    def release(self, done: Run) -> None:
        """Let the arms that follow a run begin."""
        following = self._following.pop((done.arm.name, done.seed), [])
        self.ready.extend((arm, done.seed) for arm in following)


def _lost(run: Run, error: Exception) -> ValidationError:
    return ValidationError(
        f"the run {run.arm.name!r} with seed {run.seed} was lost",
        got=f"{type(error).__name__}: {error}",
        expected="a worker that lives until the training is over, and has this package",
        remedy="if there was too little memory, do fewer runs at the same time (--jobs); then call "
        "it again: finished runs are not repeated",
    )
