"""Checks of the runs that need no statistics: silent while inert, plausible while acting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ..errors import ValidationError
from ..settings import Config
from ..training import Schedule
from ..verification import Check
from .worker import Record

__all__ = ["baseline", "refuse_idle", "sanity"]

_RATIO = "C_MIEI_Ratio"


def baseline(name: str, plain: Mapping[int, Record], other: Mapping[int, Record]) -> Check:
    """Whether an arm equals the plain one bit for bit.

    This compares the metrics, the trained weights and buffers, and the final state of torch's
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
    """Whether Ratio is 0 where nothing acts and above 0 where something does, Hist is a share, and
    the epochs are counted from ``FIRST_EPOCH``.
    """
    epochs = [_known_epochs(record, config) for record in records.values()]
    still = [ratio for of_seed in epochs for ratio, acting in of_seed if not any(acting)]
    acting = [
        [ratio for ratio, acting in of_seed if all(acting)]
        or [ratio for ratio, acting in of_seed if any(acting)]
        for of_seed in epochs
    ]
    largest = max(still, default=0.0)
    least = min((sum(ratios) / max(len(ratios), 1) for ratios in acting), default=0.0)
    shares = [
        sum(value for key, value in epoch.items() if key.startswith("Hist_"))
        for record in records.values()
        for epoch in record.epochs
        if math.isfinite(epoch.get(_RATIO, math.nan))
    ]
    highest = max(shares, default=math.nan)
    first = [e["epoch"] for record in records.values() for e in record.epochs if "epoch" in e]
    checks = [
        Check("Ratio is 0 in the warm-up and after the end", largest == 0, f"largest {largest:g}"),
        Check(
            "Ratio is above 0 in between",
            least > 0,
            f"mean {least:.3f} for the seed with the smallest"
            if any(acting)
            else f"no step was to act: {_range(config)}",
        ),
    ]
    if first:
        begins = Check(
            "epochs begin at FIRST_EPOCH",
            min(first) == config.first_epoch,
            f"the first epoch is {min(first):g}",
        )
        checks.append(begins)
    sums = Check("Hist sums to at most 1", highest < 1 + 1e-6, f"largest sum {highest:.6f}")
    return [*checks, sums]


def _known_epochs(record: Record, config: Config) -> list[tuple[float, list[bool]]]:
    """Ratio of each epoch or window in which it is known, and which of its steps act."""
    ratios = [epoch.get(_RATIO, math.nan) for epoch in record.epochs]
    acting = _acting(record, config)
    return [(r, acts) for r, acts in zip(ratios, acting, strict=True) if math.isfinite(r)]


def _acting(record: Record, config: Config) -> Iterator[list[bool]]:
    """For each epoch or window, which of its steps act."""
    ends = [int(epoch["step"]) for epoch in record.epochs[1:]] + [len(record.counts)]
    schedule = Schedule(config)
    for epoch, end in zip(record.epochs, ends, strict=True):
        if "epoch" in epoch:
            schedule.enter(int(epoch["epoch"]))
        steps = range(int(epoch["step"]), max(end, int(epoch["step"]) + 1))
        yield [schedule.acts(step) for step in steps]


def refuse_idle(name: str, record: Record, config: Config) -> None:
    """Refuse an arm that would act in no step of a training like that of the record.

    Args:
        name: of the arm.
        record: of the same training; of the plain arm, which does not count steps, only if neither
            the warm-up nor the end is counted in steps.
        config: the settings of the arm.

    Raises:
        ValidationError: there is no such step.
    """
    if any(any(acts) for acts in _acting(record, config)):
        return
    length, in_steps = record.length, config.warmup_steps is not None
    unit, seen = "epochs", f"{length.epochs} epochs from {length.first_epoch} on"
    if in_steps:
        unit, seen = "steps", f"{length.steps} steps"
    begins = config.warmup_steps if in_steps else config.warmup_epochs
    ends = config.end_step if in_steps else config.end_epoch
    remedy = f"train longer than the warm-up ({begins} {unit}), with --args if your function takes "
    remedy += f"the number of {unit}; or set WARMUP_{unit.upper()} lower: it is one of the settings"
    raise ValidationError(
        f"the arm {name!r} cannot act: nothing would ever be substituted",
        got=f"a training of {seen}; {_range(config)}",
        expected=f"{unit} after the warm-up" + (" and before the end" if ends is not None else ""),
        remedy=remedy,
    )


def _range(config: Config) -> str:
    """The settings that say when something is substituted."""
    warmup, end = config.warmup_steps, config.end_step
    begins = f"WARMUP_STEPS {warmup}"
    if warmup is None:
        begins = f"FIRST_EPOCH {config.first_epoch}, WARMUP_EPOCHS {config.warmup_epochs}"
    return f"{begins}, END_EPOCH {config.end_epoch}" if end is None else f"{begins}, END_STEP {end}"
