"""Checks of the runs that need no statistics: silent while inert, plausible while acting."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..settings import Config
from ..verification import Check
from .worker import Record

__all__ = ["baseline", "sanity"]

_RATIO = "C_MIEI_Ratio"


def baseline(name: str, plain: Mapping[int, Record], other: Mapping[int, Record]) -> Check:
    """Whether an arm equals the plain one bit for bit.

    Compared are the metrics, the trained weights and buffers, and the final state of torch's
    generator, for every seed that both arms have.
    """
    seeds = sorted(plain.keys() & other.keys())
    differ = [
        seed
        for seed in seeds
        if plain[seed].digest != other[seed].digest
        or not _equal(plain[seed].metrics, other[seed].metrics)
    ]
    found = f"weights, metrics and generator are equal for seeds {seeds}"
    if differ:
        found = f"different for seeds {differ}: is the training itself repeatable?"
    return Check(f"{name} equals the plain run", bool(seeds) and not differ, found)


def _equal(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        a == other[name] or (math.isnan(a) and math.isnan(other[name])) for name, a in one.items()
    )


def sanity(records: Mapping[int, Record], config: Config) -> list[Check]:
    """Whether Ratio is 0 in the warm-up and above 0 after it, and the shares Hist sum to 1."""
    epochs = [epoch for record in records.values() for epoch in record.epochs]
    begins = config.first_epoch + config.warmup_epochs
    ends = math.inf if config.end_epoch is None else config.end_epoch
    known = [epoch for epoch in epochs if math.isfinite(epoch.get(_RATIO, math.nan))]
    acting = [
        [e[_RATIO] for e in record.epochs if e in known and begins <= e["epoch"] < ends]
        for record in records.values()
    ]
    still = [e[_RATIO] for e in known if not begins <= e["epoch"] < ends]
    sums = [sum(v for k, v in e.items() if k.startswith("Hist_")) for e in known]
    largest = max(still, default=0.0)
    least = min((sum(ratios) / max(len(ratios), 1) for ratios in acting), default=0.0)
    first = min((e["epoch"] for e in epochs), default=math.nan)
    worst = max((abs(total - 1) for total in sums), default=math.nan)
    return [
        Check("Ratio is 0 outside its epochs", largest == 0, f"largest {largest:g}"),
        Check(
            "Ratio is above 0 in its epochs",
            least > 0,
            f"mean {least:.3f} for the seed with the smallest"
            if any(acting)
            else f"no epoch is in the range that begins at {begins} and ends before {ends}",
        ),
        Check(
            "epochs begin at FIRST_EPOCH",
            first == config.first_epoch,
            f"the first epoch is {first:g}",
        ),
        Check("Hist sums to 1", worst < 1e-6, f"off by at most {worst:.1e}"),
    ]
