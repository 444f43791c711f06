"""One run, as a worker process does it, and its record on disk, so that nothing is run twice."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..auditing import import_function
from ..errors import CMIEIError, ValidationError
from ..function_name import parse_function
from ..reporting import sha256, versions, write_files
from ..settings import Config
from .arms import Arm, Length
from .recorder import Recorder

__all__ = ["Record", "Run", "execute", "keep", "recorded", "sources_of"]


@dataclass(frozen=True)
class Run:
    """One training: an arm with a seed."""

    train: str
    """``module:function``."""
    overrides: Mapping[str, Any]
    """Further arguments of the function."""
    settings: Mapping[str, Any]
    """The user's settings of C-MIEI; those of the arm override them."""
    arm: Arm
    seed: int
    counts: tuple[int, ...] = ()
    """For a control, how much to substitute in each step."""
    sources: tuple[str, ...] = ()
    """Digests of the files that the result depends on (``sources_of``)."""
    threads: int = 1
    """The number of torch's threads, which changes the order of sums."""

    @property
    def key(self) -> str:
        """A digest of everything that is known to change the result."""
        content = {**asdict(self), "versions": versions()}
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def file(self) -> str:
        """The file name of its record."""
        return f"{self.arm.file}-seed{self.seed}.json"


@dataclass(frozen=True)
class Record:
    """The outcome of a run."""

    key: str
    """The key of the run."""
    metrics: Mapping[str, float]
    """The metrics that the training function returned."""
    epochs: list[dict[str, float]]
    """For each epoch its number under ``epoch``, the number of its first training call of the head
    under ``step`` and, where something was estimated, the values of ``Handle.metrics``. Where
    nobody tells the epochs: the same for each window of ``LOG_PERIOD`` steps, without ``epoch``."""
    counts: list[int]
    """The number of samples substituted in each training call of the head; where several modalities
    of a sample may be, the number of modalities of samples."""
    config: Mapping[str, Any]
    """The settings in force, under their YAML keys."""
    digest: str
    """A digest of the trained weights, the buffers and the final state of torch's generator."""
    seconds: float = field(compare=False, default=math.nan)

    @property
    def length(self) -> Length:
        """How long the training was; the plain and the disabled arm do not see it."""
        told = [int(epoch["epoch"]) for epoch in self.epochs if "epoch" in epoch]
        return Length(told[0] if told else 0, len(told), len(self.counts))

    @classmethod
    def read(cls, text: str) -> Record:
        """The record in a JSON text.

        Raises:
            ValueError: the text holds something else.
        """
        try:
            record = cls(**json.loads(text))
            numbers = [record.metrics, *record.epochs, {"seconds": record.seconds}]
            whole = (
                all(isinstance(v, (int, float)) for values in numbers for v in values.values())
                and all(isinstance(count, int) and count >= 0 for count in record.counts)
                and all(
                    math.isfinite(epoch["step"]) and math.isfinite(epoch.get("epoch", 0))
                    for epoch in record.epochs
                )
                and isinstance(record.digest, str)
            )
            Config.load(record.config)
        except (TypeError, AttributeError, KeyError, OverflowError) as error:
            raise ValueError(str(error)) from error
        if not (whole and record.metrics and record.epochs):
            raise ValueError("metrics, epochs or counts are not numbers, or there are none")
        return record


def sources_of(train: str, overrides: Mapping[str, Any], strategy: str = "") -> tuple[str, ...]:
    """Digests of the files of the training function and of the strategy of an arm, if there is one,
    and of the files that the arguments of the training function name.
    """
    files = [_file_of(name) for name in (train, strategy) if name]
    files += [str(value) for value in overrides.values() if isinstance(value, (str, Path))]
    return tuple(sha256(file) for file in files if file and Path(file).is_file())


def _file_of(name: str) -> str | None:
    """The file of a function or class; of another callable, that of the module that holds it."""
    function = inspect.unwrap(import_function(name))
    if inspect.isroutine(function) or inspect.isclass(function):
        with contextlib.suppress(TypeError):  # it is not written in Python
            return inspect.getsourcefile(function)
    return getattr(sys.modules[parse_function(name)[0]], "__file__", None)


def execute(run: Run, directory: Path, here: str) -> Record:
    """Do a run in the process that this is called in, one at a time.

    The record is written at once where the directory can be reached, and one that is there already
    is returned as it is: whoever asked for the run may be gone, or may ask twice.

    Args:
        run: what to train.
        directory: the absolute path of the records.
        here: the working directory of the validation; the run is done there if this machine has it.

    Raises:
        CMIEIError: the training cannot be used, or raised an error.
    """
    with _ALONE, _in_directory(here):
        with contextlib.suppress(ValueError):  # a damaged record is replaced
            if (done := recorded(directory / run.file, run.key)) is not None:
                return done
        _refuse_other_files(run)
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
                remedy="correct the training (the traceback is above); finished runs are not "
                "repeated unless you edit the file of the training function",
            ) from None
        if directory.is_dir():
            keep(run, record, directory)
    return record


_ALONE = threading.Lock()
"""Threads of one process would share torch's generator and its number of threads."""


@contextmanager
def _in_directory(here: str) -> Iterator[None]:
    """Go to a directory if there is one; the next run in this process begins where this one did."""
    before = os.getcwd()
    if Path(here).is_dir():
        os.chdir(here)
    try:
        yield
    finally:
        os.chdir(before)


@cache
def _sources_here(train: str, values: tuple[str, ...], strategy: str) -> tuple[str, ...]:
    """The digests of this machine; once in a process, which imports a function only once."""
    return sources_of(train, {value: value for value in values}, strategy)


def _refuse_other_files(run: Run) -> None:
    values = tuple(str(v) for v in run.overrides.values() if isinstance(v, (str, Path)))
    if run.sources and _sources_here(run.train, values, run.arm.strategy) != run.sources:
        raise ValidationError(
            f"the files of {run.train} are not those that the validation began with",
            got=f"on {platform.node()}: another file of the function, or other data",
            expected="the same file of the function, and the same files in its arguments",
            remedy="give every worker the same files under the same paths; if you have edited one "
            "meanwhile, begin again",
        )


def recorded(path: Path, key: str) -> Record | None:
    """The record of a run with this key; None if there is none.

    Raises:
        ValueError: the file does not hold a record.
    """
    try:
        record = Record.read(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return record if record.key == key else None


def keep(run: Run, record: Record, directory: Path) -> None:
    """Write a record; NaN stays NaN.

    Raises:
        CMIEIError: it cannot be written.
    """
    write_files(directory, {run.file: json.dumps(asdict(record)) + "\n"})


def _record(run: Run) -> Record:
    torch.set_num_threads(run.threads)
    recorder = Recorder(run.arm, run.settings, run.counts, run.seed)
    train = import_function(run.train)
    start = time.perf_counter()
    returned = train(recorder, run.seed, **run.overrides)
    seconds = time.perf_counter() - start
    recorder.finish()
    return Record(
        run.key,
        _metrics(returned, run.train),
        recorder.epochs,
        recorder.counts,
        recorder.config.to_dict(),
        recorder.digest(),
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
            f"{train} did not return metrics",
            got=wrong,
            expected="a dict from names to numbers, such as {'accuracy': 0.93}",
            remedy="return the numbers by which the runs are to be compared, and nothing else",
        )
    return metrics
