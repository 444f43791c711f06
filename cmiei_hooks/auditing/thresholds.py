"""How often other thresholds would act, from recorded influences: the model does not run again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import cap, lead
from ..mean_influence import refuse_one_modality
from ..measures import FLOOR

__all__ = [
    "ABS_THR",
    "P_MAX",
    "REL_THR",
    "Suggestion",
    "WhatIf",
    "suggest",
    "what_if",
    "with_configured",
]

ABS_THR = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3)
REL_THR = (1.0, 1.25, 1.5, 2.0, 3.0)
P_MAX = (0.2, 0.3, 0.5, 1.0)

MODERATE = (0.1, 0.6)
"""The range of the triggered share in which the thresholds need no change."""


@dataclass(frozen=True)
class WhatIf:
    """What one choice of thresholds does with the recorded samples, at sample level.

    Shares are of the samples with finite influence, and NaN if there is none.
    """

    abs_thr: float
    rel_thr: float
    p_max: float
    triggered: float
    """Share of samples above both thresholds."""
    shares: tuple[float, ...]
    """The share of the triggered samples that each modality dominates; NaN if none is triggered."""
    substituted: float
    """Share of samples within the cap of each batch: C_MIEI_Ratio after the warm-up, if training
    had batches of this size and left the influences as they are, which it does not."""


@dataclass(frozen=True)
class Suggestion:
    """The suggested thresholds and, in one sentence, the reason."""

    abs_thr: float
    rel_thr: float
    p_max: float
    reason: str


def with_configured(grid: Sequence[float], configured: float) -> tuple[float, ...]:
    """The grid and the configured value, ascending, each value once."""
    return tuple(sorted({*grid, configured}))


def what_if(
    influence: Tensor,
    batch: Tensor,
    *,
    abs_thr: Sequence[float] = ABS_THR,
    rel_thr: Sequence[float] = REL_THR,
    p_max: Sequence[float] = P_MAX,
    floor: float = FLOOR,
) -> list[WhatIf]:
    """What ``select`` would choose in the recorded batches, for every combination in a grid.

    The cap depends on the batches: if they had other sizes or were shuffled, other samples would be
    within it.

    Args:
        influence: ``[N, M]`` with ``M >= 2``. Rows with NaN or infinite influence are never
            triggered, but belong to the size of their batch.
        batch: int64 ``[N]``, the same number for samples of one batch.
        abs_thr: values of ABS_THR, in the units of the influence.
        rel_thr: values of REL_THR.
        p_max: values of P_MAX.
        floor: influences up to here never trigger.

    Returns:
        One entry for each combination, ``p_max`` changing fastest, ``abs_thr`` slowest.

    Raises:
        InputError: the influence is not ``[N, M]`` with two or more modalities.
    """
    refuse_one_modality(influence)
    known = influence.isfinite().all(-1)
    finite = int(known.sum())
    _, number, sizes = torch.unique(batch, return_inverse=True, return_counts=True)
    caps = {share: _caps(share, sizes) for share in p_max}
    # Row by row as ``select`` decides, but what does not depend on the thresholds only once.
    number, (first, largest, ratio) = number[known], lead(influence[known])
    cells = []
    for absolute in abs_thr:
        large = largest > max(absolute, floor)
        for relative in rel_thr:
            triggered = large & (ratio > relative)
            count = int(triggered.sum())
            firsts = first[triggered].bincount(minlength=influence.shape[1]).tolist()
            shares = tuple(_share(one, count) for one in firsts)
            in_batch = number[triggered].bincount(minlength=len(sizes))
            for share in p_max:
                # Which rows the cap keeps does not matter here, only how many.
                kept = int(in_batch.minimum(caps[share]).sum())
                rates = (_share(count, finite), shares, _share(kept, finite))
                cells.append(WhatIf(absolute, relative, share, *rates))
    return cells


def _caps(p_max: float, sizes: Tensor) -> Tensor:
    # cap() is exact and slow; batches have few different sizes.
    different, index = torch.unique(sizes, return_inverse=True)
    return torch.tensor([cap(p_max, size) for size in different.tolist()], dtype=torch.int64)[index]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def suggest(cells: Sequence[WhatIf], *, abs_thr: float, rel_thr: float, p_max: float) -> Suggestion:
    """Thresholds that trigger for a moderate share of the samples, from 10 % to 60 %.

    These are the configured thresholds if they do; otherwise the nearest ones in the grid that do,
    by the logarithms of the two ratios (of equally near ones, those that trigger least). P_MAX
    stays as it is. ``REL_THR <= 1`` is not suggested, since any lead would then count as dominance.
    If no thresholds are moderate, the configured ones stay.

    The suggestion is about how often the method acts on these samples, not about whether that
    helps, which only paired training runs show. It is meant for ``SAMPLE_LEVEL True``.

    Args:
        cells: what ``what_if`` returned, for a grid that includes the configured thresholds.
        abs_thr: as configured.
        rel_thr: as configured.
        p_max: as configured.
    """
    configured, *others = sorted(
        (c for c in cells if c.p_max == p_max),
        key=lambda c: (_distance(c, abs_thr, rel_thr), c.triggered),
    )
    if math.isnan(configured.triggered):
        return Suggestion(abs_thr, rel_thr, p_max, "no sample has finite influence to go by")
    others = [c for c in others if c.rel_thr > 1]
    suggested = next((c for c in [configured, *others] if _moderate(c)), configured)
    bounds = "{:.0%} to {:.0%}".format(*MODERATE)
    why = f"within the moderate {bounds}"
    if suggested is not configured:
        why = f"outside the moderate {bounds}, and {_thresholds(suggested)}, the nearest of the "
        why += f"grid within, would trigger {suggested.triggered:.1%}"
    elif not _moderate(configured):
        why = "and no setting of the grid with REL_THR above 1 triggers "
        why += _obstacle(configured, others, bounds)
    reason = f"{_thresholds(configured)} trigger {configured.triggered:.1%} of the samples, {why} "
    reason += "(this is about how often it acts, not about whether it helps)"
    return Suggestion(suggested.abs_thr, suggested.rel_thr, p_max, reason)


def _obstacle(configured: WhatIf, others: Sequence[WhatIf], bounds: str) -> str:
    rates = [cell.triggered for cell in (configured, *others)]
    if max(rates) < MODERATE[0]:
        return (
            f"more than {max(rates):.1%}: influence is small or balanced, and there is nothing to "
            "equalise"
        )
    if min(rates) > MODERATE[1]:
        return (
            f"less than {min(rates):.1%}: nearly every sample has a dominant modality, and it is "
            f"P_MAX {configured.p_max:g} that limits the substitution, to "
            f"{configured.substituted:.1%}"
        )
    return f"{bounds}: there is nothing between too rare and too often"


def _moderate(cell: WhatIf) -> bool:
    return MODERATE[0] <= cell.triggered <= MODERATE[1]


def _thresholds(cell: WhatIf) -> str:
    return f"ABS_THR {cell.abs_thr:g} and REL_THR {cell.rel_thr:g}"


def _distance(cell: WhatIf, abs_thr: float, rel_thr: float) -> float:
    steps = (_log(cell.abs_thr) - _log(abs_thr), _log(cell.rel_thr) - _log(rel_thr))
    # Rounded, so that distances that are mathematically equal compare as equal.
    return round(math.hypot(*steps), 9)


def _log(threshold: float) -> float:
    # A threshold of 0 or infinity is clamped: merely far from the others.
    return math.log(min(max(threshold, 1e-9), 1e9))
