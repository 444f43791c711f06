"""The sinks that need nothing but the standard library, and who hands them the records."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..distributed import rank
from ..errors import ConfigError
from .record import LogRecord, Sink

__all__ = ["JSONLines", "Reporter", "ScalarWriter", "Scalars", "StandardLogging"]


class Reporter:
    """Hands records to the sinks, on rank 0 only."""

    def __init__(self, sinks: Sequence[Sink], period: int) -> None:
        self.sinks, self.period = tuple(sinks), period
        self.next_step = 0

    def due(self, step: int) -> bool:
        """Whether the measurement of this step is to be logged: the first one of each period."""
        if not self.sinks or step < self.next_step:
            return False
        self.next_step = (step // self.period + 1) * self.period
        return rank() == 0

    def emit(self, record: LogRecord) -> None:
        """Give a record to every sink."""
        if rank() == 0:
            for sink in self.sinks:
                sink(record)


class JSONLines:
    """Appends one JSON object a record to a file; not-a-number becomes null.

    The keys of the figures are ``event, head, epoch, step`` and those of ``Handle.metrics()``; the
    line of the start has the settings instead. A file that exists is continued.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, record: LogRecord) -> None:
        """Log one record."""
        row: dict[str, Any] = {"event": record.event, "head": record.head}
        if record.event == "figures":
            row |= {"epoch": record.epoch, "step": record.step}
            row |= {k: v if math.isfinite(v) else None for k, v in record.metrics.items()}
        else:
            settings = record.config.to_dict()
            settings |= {"HEAD": record.head, "SPLITS": record.splits, "NAMES": record.names}
            row |= {k: str(v) if v == math.inf else v for k, v in settings.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


class ScalarWriter(Protocol):
    """TensorBoard's ``SummaryWriter`` and whatever else has this method."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> Any:
        """Record one value of a curve."""


class Scalars:
    """Writes every figure with ``writer.add_scalar(prefix + name, value, step)``.

    For TensorBoard and others. Give every attachment a prefix of its own if there are several.
    """

    def __init__(self, writer: ScalarWriter, prefix: str = "C_MIEI/") -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise ConfigError(
                "the writer cannot take scalars",
                got=type(writer).__name__,
                expected="an object with add_scalar(tag, value, step)",
                remedy="pass torch.utils.tensorboard.SummaryWriter(), or a callable as log= itself",
            )
        self.writer, self.prefix = writer, prefix

    def __call__(self, record: LogRecord) -> None:
        """Log one record."""
        for key, value in record.metrics.items():
            self.writer.add_scalar(self.prefix + key, value, record.step)


class StandardLogging:
    """Sends the lines of the console to the ``logging`` module, at level INFO."""

    def __init__(self, logger: logging.Logger | str = "cmiei_hooks") -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger

    def __call__(self, record: LogRecord) -> None:
        """Log one record."""
        self.logger.info("%s", record.text())
