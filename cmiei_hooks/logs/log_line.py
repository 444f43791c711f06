"""One entry of the log: the record that sinks get, and the line of text that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..settings import Config, without_effect

__all__ = ["LogRecord", "Sink"]


@dataclass(frozen=True)
class LogRecord:
    """One thing to log: the start with its settings, or the metrics of an estimation step."""

    event: Literal["start", "disabled", "figures", "epoch", "end"]
    """``start``: attached. ``disabled``: not attached, since ENABLED is False. ``figures``: the
    metrics so far, every LOG_PERIOD steps. ``epoch``: the metrics of a whole epoch. ``end``: what
    the attachment did."""
    head: str
    names: tuple[str, ...]
    splits: tuple[Any, ...]
    """The width of each modality (None: the rest), or the list of its locations in the arguments of
    the head."""
    config: Config
    step: int = 0
    """The newest estimation step: a training-mode call of the head, counted from 0."""
    epoch: int | None = None
    """None: no epoch was ever told, by ``set_epoch`` or by ``epoch=``."""
    metrics: dict[str, float] = field(default_factory=dict)
    """As from ``Handle.metrics()``; empty at the start, those of the last epoch at the end."""
    first: dict[str, float] = field(default_factory=dict)
    """At the end, the metrics of the first epoch."""
    totals: dict[str, int] = field(default_factory=dict)
    """At the end, the numbers of ``steps``, ``estimates``, measured ``samples``, ``substituted``
    samples and estimates ``skipped`` because a modality was missing."""
    reason: str = ""
    """At the end, why nothing was substituted although it was meant to be."""

    def text(self) -> str:
        """The record as one line."""
        if self.event == "end":
            return _end(self)
        return _metrics(self) if self.event in ("figures", "epoch") else _start(self)


Sink = Callable[[LogRecord], Any]
"""Anything that takes a record. What it returns is ignored."""


def _start(record: LogRecord) -> str:
    if record.event == "disabled":
        return "C-MIEI disabled: ENABLED is False, nothing is attached"
    splits = ("rest" if split is None else split for split in record.splits)
    parts = " ".join(f"{n}:{w}" for n, w in zip(record.names, splits, strict=True))
    widths = not any(isinstance(split, list) for split in record.splits)
    kind = "splits" if widths else "modalities"
    hint = " | names=[...] names them" if widths and record.config.names is None else ""
    settings = " | ".join(_settings(record.config))
    return f"C-MIEI attached | {settings} | head {record.head} | {kind} {parts}{hint}"


_SHOWN = (
    "k",
    "sigma",
    "tau_samples",
    "tau_modalities",
    "rate",
    "gate",
    "abs_thr",
    "rel_thr",
    "sample_level",
    "p_max",
    "warmup_epochs",
    "warmup_steps",
    "end_epoch",
    "end_step",
)
_SHOWN_IF_CHANGED = ("relative", "measure", "drop", "inplace", "sync")


def _settings(config: Config) -> list[str]:
    """The settings that matter here, as words of the line."""
    idle = without_effect(config)
    usual = Config()
    changed = [n for n in _SHOWN_IF_CHANGED if getattr(config, n) != getattr(usual, n)]
    shown = [name for name in (*_SHOWN, *changed) if name not in idle]
    values = {name: getattr(config, name) for name in shown}
    words = [f"{name.upper()} {value}" for name, value in values.items() if value is not None]
    if "sigma" in values and config.sigma_unit != "feature":
        words[1] += f" {config.sigma_unit}"
    return words if config.preset == "published" else [f"PRESET {config.preset}", *words]


def _metrics(record: LogRecord) -> str:
    m, names = record.metrics, record.names
    influence = " / ".join(f"CI_{n} {_number(m[f'CI_{n}'])}" for n in names)
    dominance = " / ".join(f"{m[f'Hist_{n}']:.2f}" for n in names)
    return (
        f"C-MIEI {record.head} | {_when(record)} | "
        f"C_MIEI_Ratio {m['C_MIEI_Ratio']:.3f} | {influence} | Hist[{','.join(names)}] {dominance}"
    )


def _when(record: LogRecord) -> str:
    """What the averages are over; no epoch is named that nobody told."""
    epoch = "" if record.epoch is None else f"epoch {record.epoch:>3} "
    if record.event == "figures":
        return f"{epoch}step {record.step:>6}"
    return f"{epoch}whole epoch" if epoch else "before the first epoch"


def _end(record: LogRecord) -> str:
    t = record.totals
    parts = [
        f"C-MIEI {record.head} | ended after {_counted(t['steps'], 'step')}",
        _counted(t["estimates"], "estimate"),
        f"{t['substituted']:,} of {t['samples']:,} measured samples substituted",
    ]
    if t.get("skipped"):
        skipped = _counted(t["skipped"], "estimate")
        parts.append(f"{skipped} skipped because a modality was missing")
    if record.first:
        parts.append(" / ".join(_change(record, f"CI_{name}") for name in record.names))
    if record.reason:
        parts.append(f"nothing was substituted: {record.reason}")
    return " | ".join(parts)


def _change(record: LogRecord, metric: str) -> str:
    first, last = _number(record.first[metric]), _number(record.metrics[metric])
    return f"{metric} {last}" if first == last else f"{metric} {first} -> {last}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _number(value: float) -> str:
    return f"{value:.1e}" if 0 < value < 5e-4 else f"{value:.4f}"
