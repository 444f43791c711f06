"""When a record is due, and who gets it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..distributed import rank
from ..errors import CMIEIWarning
from .log_line import LogRecord, Sink

__all__ = ["Reporter"]


class Reporter:
    """Hands records to the sinks, on rank 0 only.

    Logging never stops training: a sink that raises is dropped, with one warning.
    """

    def __init__(self, sinks: Sequence[Sink], period: int) -> None:
        self.sinks, self.period = tuple(sinks), period
        self.next_step = 0

    def due(self, step: int) -> bool:
        """Whether to log the estimate of this step: the first one of each period."""
        if step < self.next_step:
            return False
        self.next_step = (step // self.period + 1) * self.period
        return True

    @property
    def active(self) -> bool:
        """Whether anybody gets the records: what they cost can otherwise be saved."""
        return bool(self.sinks) and rank() == 0

    def emit(self, record: LogRecord) -> None:
        """Give a record to every sink."""
        if not self.active:
            return
        working, failures = [], []
        for sink in self.sinks:
            try:
                sink(record)
                working.append(sink)
            except Exception as error:
                name = getattr(sink, "__qualname__", type(sink).__qualname__)
                failures.append(f"{name} failed with {type(error).__name__}: {error}")
        self.sinks = tuple(working)
        for failure in failures:  # last: a warning may be turned into an error
            warnings.warn(
                f"the logger {failure}. It gets no more records; training goes on",
                CMIEIWarning,
                stacklevel=2,
            )
