"""Sinks for files, curves and the ``logging`` module."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError
from ..reporting import finite, plain
from .log_line import LogRecord

__all__ = ["JSONLines", "ScalarWriter", "Scalars", "StandardLogging"]


class JSONLines:
    """Appends each record to a file, as one line of JSON.

    A line with metrics has the keys ``event, head, epoch, step`` and those of ``Handle.metrics()``;
    NaN and infinity become null. The first line has the settings instead; the last one also has the
    totals, the metrics of the first epoch, and the reason if nothing was substituted. An existing
    file is continued.

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
        if record.event in ("figures", "epoch"):
            whole = "epoch/" if record.event == "epoch" else ""
            for key, value in record.metrics.items():
                self.writer.add_scalar(self.prefix + whole + key, value, record.step)


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
