"""The method as pure tensor functions: no state, no modules, no host synchronisation.

The measures of influence are in ``measures.py``, means of influences in ``mean_influence.py``, the
selection of several modalities of a sample in ``soft_selection.py``, and what takes the place of a
modality in ``mean_plus_noise.py``.

``B`` is the batch, ``C`` the classes, ``M`` the modalities.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from .errors import ConfigError, OutputError, did_you_mean, relative_needs_samples
from .mean_influence import mean_influence, refuse_misfit_means, refuse_one_modality
from .mean_plus_noise import substitute
from .measures import FLOOR, MASKED, MEASURES, OF_CLASSES, least_logits
from .soft_selection import gate_of, select_softly, soft_probabilities

__all__ = [
    "counterfactual_influence",
    "dominant",
    "gate_of",
    "mean_influence",
    "select",
    "select_softly",
    "soft_probabilities",
    "substitute",
]

KEPT = -1
"""In a selection: this sample keeps all its modalities."""

# A selection is int64 [B], the modality of each sample that is substituted or -1; where several
# modalities of a sample may be, it is bool [B, M].


def rows_of(chosen: Tensor, modality: int) -> Tensor:
    """In which samples a selection has this modality, bool ``[B]``."""
    return chosen[:, modality] if chosen.dtype == torch.bool else chosen == modality


def any_of(chosen: Tensor) -> Tensor:
    """In which samples a selection has any modality, bool ``[B]``; also of stacked selections."""
    return chosen.any(-1) if chosen.dtype == torch.bool else chosen != KEPT


_TINY = 1e-12


def counterfactual_influence(
    logits: Tensor, counterfactual_logits: Tensor, measure: str = "kl"
) -> Tensor:
    """Influence of each modality on each sample: how far its removal moves the prediction.

    With ``z = logits[i]`` and ``z' = counterfactual_logits[m, i]``:

    - ``kl``: ``KL(softmax(z) || softmax(z'))`` in nats, the published measure;
    - ``js``: the Jensen-Shannon divergence of the two, in nats, at most ``log 2``;
    - ``ted``: target evidence drop ``relu(margin(z) - margin(z'))`` in units of the logits, where
      the margin is that of the class predicted from ``z`` over the best other class. It does not
      saturate as the divergences do;
    - ``bernoulli``: KL between the probabilities ``sigmoid(z_c)`` and ``sigmoid(z'_c)``, added over
      the logits, in nats: for sigmoid heads;
    - ``squared``: ``sum_c (z_c - z'_c)^2``, for regression.

    Args:
        logits: ``[B, C]``, from the complete input.
        counterfactual_logits: ``[M, B, C]``; entry ``m`` is computed without modality ``m``.
        measure: one of the words above.

    Returns:
        ``[B, M]``, at least 0; float32, or float64 when the logits are. Classes whose logit is -inf
        both with and without every modality are masked, and are left out. A sample with any other
        NaN or infinite logit gets NaN in its whole row.

    Raises:
        OutputError: the shapes do not fit, or the measure needs two classes and there is one.
        ConfigError: the measure is unknown.
    """
    if measure not in MEASURES:
        raise ConfigError(
            "unknown measure",
            got=repr(measure),
            expected=" or ".join(map(repr, MEASURES)),
            remedy=did_you_mean(measure, MEASURES) or "leave it out",
        )
    if logits.dim() != 2 or logits.shape[1] < least_logits(measure):
        raise OutputError(
            "influence needs the logits of two or more classes"
            if measure in OF_CLASSES
            else "influence needs the logits of a batch",
            got=f"logits of shape {list(logits.shape)}",
            expected=f"[B, C] with C >= {least_logits(measure)} for the measure {measure!r} "
            "(softmax over one logit is always 1)",
            remedy="pass the logits of all classes; for one logit, measure 'bernoulli' or "
            "'squared'",
        )
    if counterfactual_logits.dim() != 3 or counterfactual_logits.shape[1:] != logits.shape:
        raise OutputError(
            "counterfactual logits do not belong to the logits",
            got=f"{list(counterfactual_logits.shape)} for logits {list(logits.shape)}",
            expected="[M, B, C] for logits [B, C]",
            remedy="stack the logits without each modality along a new first axis",
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    z, without = logits.to(dtype), counterfactual_logits.to(dtype)
    broken = (z.isneginf() != without.isneginf()).any(-1).any(0)  # masked in one of them only
    z, without = z.clamp_min(MASKED), without.clamp_min(MASKED)
    influence = MEASURES[measure](z, without).clamp_min(0).T
    finite = z.isfinite().all(-1) & without.isfinite().all(-1).all(0) & ~broken
    if measure in OF_CLASSES:  # of no class at all there is no softmax
        finite &= (z > MASKED).any(-1)
    return influence.masked_fill(~finite[:, None], math.nan)


def dominant(influence: Tensor, floor: float = FLOOR) -> Tensor:
    """Return the index of the modality with the largest influence; of equal ones, the first.

    Args:
        influence: ``[B, M]``.
        floor: influences up to here are rounding; ``floor_of(measure)``.

    Returns:
        int64 ``[B]``; -1 where no influence is above the floor, or one is not finite.
    """
    largest, first = influence.nan_to_num(0).max(-1)
    known = influence.isfinite().all(-1) & (largest > floor)
    return first.masked_fill(~known, KEPT)


def select(
    influence: Tensor,
    *,
    abs_thr: float,
    rel_thr: float,
    p_max: float,
    sample_level: bool,
    relative: bool = False,
    mean: Tensor | None = None,
    floor: float = FLOOR,
) -> Tensor:
    """Decide which modality of which sample is substituted.

    A sample is triggered when its dominant influence exceeds ``abs_thr`` and is more than
    ``rel_thr`` times the second largest. Of the triggered samples, the ``floor(p_max * B)`` with
    the largest dominant influence are selected; of equal ones, the earlier. With
    ``sample_level=False`` the rule is applied once, to the mean influences, and selects the batch's
    dominant modality in every sample; ``p_max`` does not apply. Samples with NaN or infinite
    influence are never selected and do not enter the means.

    With ``relative`` the dominant modality of a sample is the one whose influence is the largest
    multiple of its mean influence. ``rel_thr`` and the order of the samples refer to these
    multiples, ``abs_thr`` to the influence itself. So a modality that is strong in every sample is
    not weakened in every sample.

    Args:
        influence: ``[B, M]`` with ``M >= 2``.
        abs_thr: ``ABS_THR``, in the units of the influence.
        rel_thr: ``REL_THR``, without a unit.
        p_max: ``P_MAX``, a share of the batch from 0 to 1.
        sample_level: ``SAMPLE_LEVEL``.
        relative: ``RELATIVE``; at sample level only.
        mean: ``[M]``, the mean influences that the batch-level rule and ``relative`` use; None:
            those of this batch.
        floor: influences up to here are rounding and never trigger; ``floor_of(measure)``.

    Returns:
        int64 ``[B]``: the index of the modality, -1 for a sample that is kept.

    Raises:
        InputError: the influence is not ``[B, M]`` with two or more modalities, or ``mean`` is not
            ``[M]``.
        ConfigError: ``p_max`` is not a share, or ``relative`` without ``sample_level``.

    Example:
        >>> influence = torch.tensor([[0.50, 0.10], [0.02, 0.01]])
        >>> select(influence, abs_thr=0.03, rel_thr=1.25, p_max=0.5, sample_level=True)
        tensor([ 0, -1])
    """
    refuse_one_modality(influence)
    refuse_misfit_means(influence, mean)
    if not 0 <= p_max <= 1:
        raise ConfigError(
            "p_max is a share of the batch",
            got=repr(p_max),
            expected="a number from 0 to 1",
            remedy="1 substitutes every triggered sample",
        )
    if relative and not sample_level:
        raise relative_needs_samples()
    if mean is None and (relative or not sample_level):
        mean = mean_influence(influence)
    abs_thr = max(abs_thr, floor)
    finite = influence.isfinite().all(-1)
    known = influence.masked_fill(~finite[:, None], 0)
    if mean is not None and not sample_level:
        mean = mean.to(influence.dtype)
        first, triggered, _ = _trigger(mean[None], mean[None], abs_thr, rel_thr)
        return first.where(triggered & finite, KEPT)
    judged = known / (mean.to(influence.dtype) + _TINY) if relative and mean is not None else known
    first, triggered, largest = _trigger(known, judged, abs_thr, rel_thr)
    if p_max == 1:  # nothing to sort: every triggered sample is within the cap
        return first.where(triggered & finite, KEPT)
    size = largest.masked_fill(~(triggered & finite), -math.inf)
    # A stable sort, not topk: of equal influences the same rows are taken on every device.
    allowed = size.argsort(descending=True, stable=True)[: cap(p_max, len(influence))]
    within = torch.zeros_like(triggered).index_fill(0, allowed, True)
    return first.where(triggered & finite & within, KEPT)


def _trigger(
    influence: Tensor, judged: Tensor, abs_thr: float, rel_thr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The dominant modality by ``judged``, whether it is triggered, and its ``judged`` value."""
    first, largest, ratio = lead(judged)
    large = influence.gather(-1, first[:, None])[:, 0] > abs_thr
    return first, large & (ratio > rel_thr), largest


def lead(influence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The modality with the largest influence ``[B]``, that influence, and over the second one."""
    # A stable sort: of equal influences the first modality is taken on every device.
    (largest, second, *_), (first, *_) = (
        found.unbind(-1) for found in influence.sort(dim=-1, descending=True, stable=True)
    )
    return first, largest, largest / (second + _TINY)


@lru_cache
def cap(p_max: float, batch: int) -> int:
    """``floor(p_max * batch)`` for the decimal number that was written: ``0.29 * 100`` is 29."""
    return math.floor(Fraction(repr(float(p_max))) * batch)
