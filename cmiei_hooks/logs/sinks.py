"""Sinks for files, curves and the ``logging`` module, and what users may pass as ``log=``."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..errors import ConfigError
from ..reporting import finite, plain
from .console import Console
from .log_line import LogRecord, Sink

__all__ = [
    "JSONLines",
    "LogTo",
    "Metrics",
    "ScalarWriter",
    "Scalars",
    "StandardLogging",
    "sinks_of",
]

LogTo: TypeAlias = bool | Sink | Sequence[Sink]
"""What ``attach`` takes as ``log=``."""


def sinks_of(log: LogTo) -> list[Sink]:
    """The sinks that ``log=`` stands for: True is the console, False none.

    Raises:
        ConfigError: a logger cannot be called with a record.
    """
    if isinstance(log, bool):
        return [Console()] if log else []
    several = isinstance(log, Sequence) and not isinstance(log, str)
    sinks: list[Any] = list(log) if several else [log]  # type: ignore[arg-type]  # narrowed above
    for sink in sinks:
        if not callable(sink) or inspect.isclass(sink):
            to_file = f"to write a file: JSONLines({sink!r})" if isinstance(sink, str) else ""
            raise ConfigError(
                "a logger cannot be called with a record",
                got=repr(sink),
                expected="log=True, False, a callable that takes a LogRecord, or a list of them",
                remedy=to_file or "make an instance, such as Console() or Scalars(writer)",
            )
    return sinks


class JSONLines:
    """Appends each record to a file, as one line of JSON.

    A line with metrics has the keys ``event, head, epoch, step`` and those of ``Handle.metrics()``;
    NaN, infinity and an epoch that nobody told become null. The first line has the settings
    instead; the last one also has the totals, the metrics of the first epoch, and the reason if
    nothing was substituted. An existing file is continued.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512], log=JSONLines("runs/cmiei.jsonl"))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # the training may change the directory

    def __call__(self, record: LogRecord) -> None:
        """Write one record."""
        row: dict[str, Any] = {"event": record.event, "head": record.head}
        if record.metrics:
            row |= {"epoch": record.epoch, "step": record.step}
            row |= {name: finite(value) for name, value in record.metrics.items()}
        if record.event == "end":
            first = {name: finite(value) for name, value in record.first.items()}
            row |= {**record.totals, "first": first, "reason": record.reason}
        elif record.event in ("start", "disabled"):
            settings = record.config.to_dict()
            settings |= {"HEAD": record.head, "SPLITS": record.splits, "NAMES": record.names}
            row |= plain(settings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


class ScalarWriter(Protocol):
    """What ``Scalars`` needs of a writer, such as TensorBoard's ``SummaryWriter``."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> Any:
        """Add one value to a curve."""


class LogMetrics(Protocol):
    """What ``Metrics`` calls, such as ``wandb.log``."""

    def __call__(self, metrics: dict[str, float], /, *, step: int) -> Any:
        """Log the metrics of one step."""


class Scalars:
    """Writes every metric with ``writer.add_scalar(prefix + name, value, step)``.

    The metrics of whole epochs go to ``prefix + "epoch/" + name``. This works with TensorBoard's
    ``SummaryWriter`` and others. If there are several attachments, give each its own prefix.

    Raises:
        ConfigError: the writer has no ``add_scalar``.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512], log=Scalars(SummaryWriter()))
    """

    def __init__(self, writer: ScalarWriter, prefix: str = "C_MIEI/") -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise ConfigError(
                "the writer cannot take scalars",
                got=type(writer).__name__,
                expected="an object with add_scalar(tag, value, step)",
                remedy="pass a torch.utils.tensorboard.SummaryWriter, or your own callable as log=",
            )
        self.writer, self.prefix = writer, prefix

    def __call__(self, record: LogRecord) -> None:
        """Write one record."""
        for tag, value in _tagged(record, self.prefix).items():
            self.writer.add_scalar(tag, value, record.step)


class Metrics:
    """Calls ``function({tag: value, ...}, step=step)`` with all metrics of a record.

    The tags are those of ``Scalars``: ``prefix + name``, and ``prefix + "epoch/" + name`` for whole
    epochs. The functions of most experiment trackers fit as they are: ``wandb.log``,
    ``mlflow.log_metrics``, ``accelerator.log``, or ``log_metrics`` of a Lightning logger. If there
    are several attachments, give each its own prefix.

    Raises:
        ConfigError: the function cannot be called.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512], log=Metrics(wandb.log))
    """

    def __init__(self, function: LogMetrics, prefix: str = "C_MIEI/") -> None:
        if not callable(function):
            raise ConfigError(
                "the metrics cannot be handed to this",
                got=type(function).__name__,
                expected="a function that is called as function({tag: value}, step=step)",
                remedy="pass the method itself, such as wandb.log, mlflow.log_metrics or "
                "logger.log_metrics",
            )
        self.function, self.prefix = function, prefix

    def __call__(self, record: LogRecord) -> None:
        """Hand over the metrics of one record."""
        if tagged := _tagged(record, self.prefix):
            self.function(tagged, step=record.step)


def _tagged(record: LogRecord, prefix: str) -> dict[str, float]:
    """The metrics of a record under the names of their curves; none at the start and the end."""
    if record.event not in ("figures", "epoch"):
        return {}
    whole = "epoch/" if record.event == "epoch" else ""
    return {f"{prefix}{whole}{name}": value for name, value in record.metrics.items()}


class StandardLogging:
    """Sends the lines that ``Console`` prints to the ``logging`` module, at level INFO.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512], log=StandardLogging("train"))
    """

    def __init__(self, logger: logging.Logger | str = "cmiei_hooks") -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger

    def __call__(self, record: LogRecord) -> None:
        """Write one record."""
        self.logger.info("%s", record.text())
