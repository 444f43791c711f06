"""Two audits compared: the table before and after, and one sentence about the dominant view."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.table import Table

from ..auditing import AuditReport, Interval

__all__ = ["comparison_table", "summary_sentence"]


def comparison_table(plain: AuditReport, equalised: AuditReport) -> Table:
    """Accuracy, accuracy without each view, CI and Hist, before and after."""
    table = Table(
        title=f"Without and with C-MIEI, {plain.n_samples} test digits", title_justify="left"
    )
    for header in ("", "plain", "with C-MIEI", "change"):
        table.add_column(header, justify="right" if header else "left")

    def row(name: str, before: float, after: float, scale: float, digits: int) -> None:
        old, new = before * scale, after * scale
        table.add_row(name, *(f"{v:.{digits}f}" for v in (old, new)), f"{new - old:+.{digits}f}")

    row("accuracy %", _mean(plain.accuracy), _mean(equalised.accuracy), 100, 2)
    for title, statistic, scale, digits in (
        ("accuracy % without", "accuracy_without", 100, 2),
        ("CI (nats)", "influence", 1, 4),
        ("Hist %", "dominance", 100, 1),
    ):
        table.add_section()
        before, after = (_means(getattr(r, statistic) or {}) for r in (plain, equalised))
        for name, value in before.items():
            row(f"{title} {name}", value, after[name], scale, digits)
    return table


def summary_sentence(plain: AuditReport, equalised: AuditReport) -> str:
    """What the table says of the view that dominated, in one line."""
    before, after = _means(plain.influence), _means(equalised.influence)
    view = max(before, key=lambda name: before[name])
    one, other = (_means(r.accuracy_without or {}) for r in (plain, equalised))
    complete = _mean(equalised.accuracy) - _mean(plain.accuracy)
    return (
        f"dominant view {view}: CI {after[view] / before[view] - 1:+.0%}, accuracy without it "
        f"{100 * (other[view] - one[view]):+.2f} points, complete accuracy {100 * complete:+.2f} "
        "points (one seed)"
    )


def _mean(interval: Interval | None) -> float:
    return math.nan if interval is None else interval.mean


def _means(intervals: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.mean for name, interval in intervals.items()}
