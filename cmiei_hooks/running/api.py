"""Run a program and observe its training, or print the heads of its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console as RichConsole
from torch import nn

from ..distributed import rank, world_size
from ..errors import CMIEIError, InputError
from ..fusion import Head, locate
from ..logs import Console, JSONLines, LogRecord, Sink
from ..reporting import visible
from ..training import Handle, attach
from .first_batch import FirstBatch
from .options import Options
from .program import Program
from .report import RunReport
from .search import HeadSearch

__all__ = ["discover_in", "observe"]


def observe(program: Program, options: Options) -> int:
    """Run a program, with C-MIEI attached to the model that it trains.

    The log goes to stdout, what the user must know to stderr.

    Args:
        program: what is run.
        options: the head, the settings, and where the report goes.

    Returns:
        The exit code of the program.
    """
    observer = _Observer(program, options)
    observer.search.start()
    code = None
    try:
        code = program.run()
    finally:
        observer.end(code)
    return code


def discover_in(program: Program) -> int:
    """Run a program up to its first training batch, and print the heads of its model.

    Returns:
        0, or the exit code of a program that ended before.

    Raises:
        CMIEIError: ``discover`` cannot read the model with this batch, or nothing was trained.
    """
    search = FirstBatch()
    search.start()
    try:
        code = program.run()
    finally:
        search.stop()
    if search.report is not None or rank() != 0 or (code and search.error is None):
        return code
    raise search.error or InputError(
        "no training call was seen",
        got="a program that ended",
        expected="a call of the model in training mode, with gradient",
        remedy="check that the program trains, and in this process",
    )


class _InThisProcess:
    """A sink that a forked process does not use."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._process = sink, os.getpid()
        self.__qualname__ = type(sink).__qualname__  # the name in warnings

    def __call__(self, record: LogRecord) -> None:
        if os.getpid() == self._process:
            self._sink(record)


class _Observer:
    """From the search for the model to the report."""

    def __init__(self, program: Program, options: Options) -> None:
        self.options, self.program = options, program
        self.directory = None if options.directory is None else options.directory.absolute()
        self.records: list[LogRecord] = []
        self.handle: Handle | None = None
        self._process, self._launched = os.getpid(), _launched()
        config, head = options.settings, options.config.head
        links = [*head.values()] if isinstance(head, Mapping) else head or [""]
        name = links if isinstance(links, str) else links[0]

        def find(module: nn.Module) -> Head:
            return locate(module, config, **self._where)

        self.search = HeadSearch(find, name, self._attach, _say)

    @property
    def _where(self) -> dict[str, Any]:
        options = self.options
        return {"modalities": options.modalities, "dim": options.dim, "output": options.output}

    def _attach(self, model: nn.Module) -> None:
        """Attach to the model whose forward begins now.

        Raises:
            CMIEIError: C-MIEI is attached already, or other ranks would go on without it.
        """
        self._check_ranks()
        sinks: list[Sink] = [Console(), self.records.append]
        if self.directory is not None:
            sinks.append(JSONLines(self.directory / "steps.jsonl"))
        length = self.options.epoch_length
        self.handle = attach(
            model,
            **self._where,
            config=self.options.settings,
            epoch=None if length is None else self._epochs(length),
            log=[_InThisProcess(sink) for sink in sinks],
        )

    def _epochs(self, length: int) -> Callable[[], int]:
        first = self.options.config.first_epoch
        return lambda: first + (0 if self.handle is None else self.handle.step // length)

    def _check_ranks(self) -> None:
        ranks = world_size()
        if ranks <= self._launched:
            return
        error = CMIEIError(
            "the script has started the other ranks itself, and they run without C-MIEI",
            got=f"{ranks} ranks, of which {self._launched} run under this command",
            expected="one cmiei run for each rank",
            remedy=f"torchrun --nproc-per-node {ranks} --no-python cmiei run ... -- "
            f"{self.program.name}",
        )
        if self.options.act:
            raise error
        _say(error)

    def end(self, code: int | None) -> None:
        """Say and write what was found; no failure changes how the program ended."""
        if os.getpid() != self._process:
            return
        self.search.stop()
        try:
            if self.handle is not None:
                self.handle.remove()
                self._write(code)
            elif self.search.count or not code:  # what failed before training has said why
                _say(self.search.failure())
        except Exception as error:  # a device that failed, a full disk
            _say(error)

    def _write(self, code: int | None) -> None:
        if self.directory is None or rank() != 0:
            return
        report = RunReport(self.records, self.program, code, self.options.act, self.options.command)
        path = visible(report.save(self.directory))
        with suppress(OSError):  # nobody reads stdout any more
            print(f"C-MIEI report: {path}", flush=True)


def _launched() -> int:
    """The number of processes that a launcher has started with this one."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if (word := os.environ.get(name, "")).isdecimal():
            return int(word)
    return 1


def _say(message: object) -> None:
    """Tell the user on stderr, once for all ranks."""
    if rank() == 0:
        console = RichConsole(stderr=True, highlight=False)
        console.print(f"cmiei run: {message}", markup=False, soft_wrap=True)
