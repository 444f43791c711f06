"""The checks of a run that need no statistics: silent when inert, plausible when it acts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..settings import Config
from .worker import Record

__all__ = ["Check", "baseline", "sanity"]


@dataclass(frozen=True)
class Check:
    """One check and what was seen."""

    name: str
    passed: bool
    seen: str


def baseline(name: str, plain: Mapping[int, Record], other: Mapping[int, Record]) -> Check:
    """Equal to the bit: all metrics, the trained weights, the final state of torch's generator."""
    seeds = sorted(plain.keys() & other.keys())
    differ = [
        seed
        for seed in seeds
        if plain[seed].digest != other[seed].digest
        or not _equal(plain[seed].metrics, other[seed].metrics)
    ]
    seen = f"weights, metrics and generator are equal for seeds {seeds}"
    if differ:
        seen = f"different for seeds {differ}: is the training itself repeatable?"
    return Check(f"{name} equals the plain run", bool(seeds) and not differ, seen)


def _equal(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        a == other[name] or (math.isnan(a) and math.isnan(other[name])) for name, a in one.items()
    )


def sanity(records: Mapping[int, Record], config: Config) -> list[Check]:
    """Ratio 0 in the warm-up and above 0 behind it; shares of the dominant modality sum to 1."""
    figures = [epoch for record in records.values() for epoch in record.epochs]
    begins = config.first_epoch + config.warmup_epochs
    ends = math.inf if config.end_epoch is None else config.end_epoch
    ratio = "C_MIEI_Ratio"
    known = [e for e in figures if math.isfinite(e.get(ratio, math.nan))]
    acting = [
        [e[ratio] for e in record.epochs if e in known and begins <= e["epoch"] < ends]
        for record in records.values()
    ]
    still = [e[ratio] for e in known if not begins <= e["epoch"] < ends]
    sums = [sum(v for k, v in e.items() if k.startswith("Hist_")) for e in known]
    largest = max(still, default=0.0)
    least = min((sum(ratios) / max(len(ratios), 1) for ratios in acting), default=0.0)
    first = min((e["epoch"] for e in figures), default=math.nan)
    worst = max((abs(total - 1) for total in sums), default=math.nan)
    return [
        Check("Ratio is 0 outside its epochs", largest == 0, f"largest {largest:g}"),
        Check(
            "Ratio is above 0 in its epochs",
            least > 0,
            f"mean {least:.3f} in the seed with the smallest"
            if any(acting)
            else f"none of the epochs is from {begins} on and before {ends}",
        ),
        Check(
            "epochs begin at FIRST_EPOCH",
            first == config.first_epoch,
            f"the first one is {first:g}",
        ),
        Check("Hist sums to 1", worst < 1e-6, f"furthest from it by {worst:.1e}"),
    ]
