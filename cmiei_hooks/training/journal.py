"""What the estimates of one attachment were: averages, log lines, and the closing line."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import distributed
from ..functional import cap
from ..fusion import Head
from ..logs import LogRecord, Reporter
from ..measures import floor_of
from ..settings import Config
from .schedule import Schedule
from .statistics import Statistics, Totals

__all__ = ["Journal"]


class Journal:
    """Adds up the estimates and reports them: every LOG_PERIOD steps, by epoch, and at the end.

    Averages begin anew with each epoch. Where the warm-up is counted in steps and nobody tells the
    epochs, they begin anew after each log line.
    """

    def __init__(self, head: Head, config: Config, schedule: Schedule, reporter: Reporter) -> None:
        self._head, self._config, self._schedule = head, config, schedule
        self.reporter = reporter
        self.statistics = Statistics(head.partition.names, floor_of(config.measure))
        self.window_ended = False
        """Whether the next estimate begins a new average."""
        self.skipped = 0
        """Estimates that were not made because the batch lacked a modality."""
        self._first: dict[str, float] = {}
        self._closed = False

    def add(self, step: int, influence: Tensor, substituted: Tensor, acts: bool) -> bool:
        """Add one estimate; log if it is due, and return whether it was logged."""
        if self.window_ended:
            self._end_average()
        self.statistics.add(influence, substituted, acts)
        if not self.reporter.due(step):
            return False
        if self.reporter.active:
            self._emit("figures", metrics=self.statistics.metrics())
        self.window_ended = self._schedule.in_steps
        return self.reporter.active

    def end_epoch(self) -> None:
        """Log the averages of the epoch that ends, and begin new ones."""
        metrics = self.statistics.metrics() if self.statistics.any else {}
        if metrics and self.reporter.active:
            self._emit("epoch", metrics=metrics)
        self._end_average()

    def _end_average(self) -> None:
        if self.statistics.any and not self._first:
            self._first = self.statistics.metrics()
        self.statistics.reset()
        self.window_ended = False

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """See ``Handle.metrics``."""
        return self.statistics.metrics(distributed.sum_over_ranks if reduce else None)

    def close(self) -> None:
        """Log the last epoch and one line about the whole training, once."""
        if self._closed or not self.reporter.active or not self._schedule.step:
            return
        self._closed = True
        metrics = self.statistics.metrics()
        if self.statistics.any and self._schedule.epochs:
            self._emit("epoch", metrics=metrics)
        totals = self.statistics.totals
        counts = {
            "steps": self._schedule.step,
            "estimates": totals.estimates,
            "samples": totals.samples,
            "substituted": totals.substituted,
            "skipped": self.skipped,
        }
        first = self._first or metrics
        reason = self._reason(totals)
        self._emit("end", metrics=metrics, first=first, totals=counts, reason=reason)

    def _reason(self, totals: Totals) -> str:
        """Why nothing was substituted although it was meant to be; empty otherwise."""
        c, schedule = self._config, self._schedule
        if totals.substituted or not c.p_max or not totals.estimates:
            return ""
        if not totals.acting:
            return schedule.why_never
        if c.selection == "soft":
            unsure = f"no prediction was surer than GATE {c.gate}"
            return unsure if c.rate and c.gate is not None else f"RATE is {c.rate:g}"
        if totals.largest <= c.abs_thr:
            return f"the largest influence was {totals.largest:.2g}, ABS_THR is {c.abs_thr:g}"
        batch = (totals.samples + totals.left_out) / totals.estimates
        if c.sample_level and not cap(c.p_max, int(batch)):
            return f"P_MAX {c.p_max:g} of a batch of {batch:.3g} is less than one sample"
        return f"no influence was more than REL_THR {c.rel_thr:g} times the second largest"

    def _emit(self, event: Any, **content: Any) -> None:
        partition, schedule = self._head.partition, self._schedule
        record = LogRecord(
            event,
            self._head.name,
            partition.names,
            tuple(partition.plain),
            self._config,
            max(schedule.step - 1, 0),
            schedule.epoch if schedule.epochs else None,
            **content,
        )
        self.reporter.emit(record)
