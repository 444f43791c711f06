"""The method as pure tensor functions: no state, no modules, no host synchronisation.

The measures of influence are in ``measures.py``, what takes the place of a modality is in
``mean_plus_noise.py``.

``B`` is the batch, ``C`` the classes, ``M`` the modalities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from .errors import ConfigError, InputError, OutputError, did_you_mean, relative_needs_samples
from .mean_plus_noise import substitute
from .measures import FLOOR, MASKED, MEASURES, OF_CLASSES, least_logits

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
    _refuse_means(influence, mean)
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


def refuse_one_modality(influence: Tensor) -> None:
    """Raise InputError if there is nothing to compare."""
    if influence.dim() != 2 or influence.shape[1] < 2:
        raise InputError(
            "selection compares two or more modalities",
            got=f"influence of shape {list(influence.shape)}",
            expected="[B, M] with M >= 2",
            remedy="pass what counterfactual_influence returned",
        )


def _trigger(
    influence: Tensor, judged: Tensor, abs_thr: float, rel_thr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The dominant modality by ``judged``, whether it is triggered, and its ``judged`` value."""
    first, largest, ratio = lead(judged)
    large = influence.gather(-1, first[:, None])[:, 0] > abs_thr
    return first, large & (ratio > rel_thr), largest


def lead(influence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The modality with the largest influence ``[B]``, that influence, and over the second one."""
    largest, first = influence.max(-1)
    second = influence.scatter(-1, first[:, None], -math.inf).amax(-1)
    return first, largest, largest / (second + _TINY)


def soft_probabilities(
    influence: Tensor,
    *,
    tau_samples: float,
    tau_modalities: float,
    rate: float,
    mean: Tensor | None = None,
    usual: Tensor | None = None,
    floor: float = FLOOR,
) -> Tensor:
    """The probability with which each modality of each sample is substituted, in soft selection.

    ``sigmoid(tau_samples * s[i, m] + tau_modalities * g[m] + log(rate / (1 - rate)))``, where

    - ``s[i, m]`` is the log of ``influence[i, m] / mean[m]``: does this sample depend on the
      modality more than other samples do?
    - ``g[m]`` is the log of ``usual[m]``: is the modality strong in all samples?

    each minus its mean over the modalities. Influences below ``floor`` count as ``floor``, so that
    none is zero. A sample with NaN or infinite influence has the probability 0 for each modality.

    Args:
        influence: ``[B, M]`` with ``M >= 2``.
        tau_samples: ``TAU_SAMPLES``; above 0, samples lose what they depend on.
        tau_modalities: ``TAU_MODALITIES``; above 0 the strong modality is substituted more often,
            below 0 the weak one.
        rate: ``RATE``, from 0 (never) to 1 (always).
        mean: ``[M]``; None: the mean influences of this batch.
        usual: ``[M]``, such as a running mean; None: ``mean``.
        floor: influences up to here are rounding; ``floor_of(measure)``.

    Returns:
        ``[B, M]``, from 0 to 1.

    Raises:
        InputError: the influence is not ``[B, M]`` with two or more modalities, or ``mean`` or
            ``usual`` is not ``[M]``.
        ConfigError: ``rate`` is not a probability.

    Example:
        >>> influence = torch.tensor([[0.4, 0.1], [0.2, 0.2]])
        >>> soft_probabilities(influence, tau_samples=1.0, tau_modalities=0.0, rate=0.5)
        tensor([[0.5858, 0.4142], [0.4142, 0.5858]])
    """
    refuse_one_modality(influence)
    _refuse_means(influence, mean)
    _refuse_means(influence, usual)
    if not 0 <= rate <= 1:
        raise ConfigError(
            "rate is a probability",
            got=repr(rate),
            expected="a number from 0 to 1",
            remedy="0.5 substitutes every second modality",
        )

    def centred_log(values: Tensor) -> Tensor:
        logs = values.to(influence.dtype).clamp_min(max(floor, _TINY)).log()
        return logs - logs.mean(-1, keepdim=True)

    mean = mean_influence(influence) if mean is None else mean
    finite = influence.isfinite().all(-1, keepdim=True)
    of_sample = centred_log(influence.masked_fill(~finite, 1)) - centred_log(mean)
    of_modality = centred_log(mean if usual is None else usual)
    bias = math.log(rate / (1 - rate)) if 0 < rate < 1 else math.copysign(math.inf, rate - 0.5)
    logits = tau_samples * of_sample + tau_modalities * of_modality + bias
    return logits.sigmoid() * finite


def gate_of(logits: Tensor, start: float) -> Tensor:
    """The probability with which a sample is substituted at all: 0 until its prediction is sure.

    It rises from 0, where the probability of the predicted class is ``start`` or less, to 1, where
    that is 1: ``clip((max softmax(z_i) - start) / (1 - start), 0, 1)``. So samples are weakened
    when they have been learned, as in self-paced learning.

    Args:
        logits: ``[B, C]``, from the complete input.
        start: ``GATE``, from 0 to 1.

    Returns:
        ``[B]``, from 0 to 1; 0 where a logit is NaN.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    sure = logits.softmax(-1, dtype).amax(-1).nan_to_num(0)
    return ((sure - start) / max(1 - start, _TINY)).clamp(0, 1)


def select_softly(probabilities: Tensor, draws: Tensor, gate: Tensor | None = None) -> Tensor:
    """Draw the modalities of each sample that are substituted: any number of them, but never all.

    With ``u, v, w`` the columns of ``draws``: a modality is drawn where ``u`` is less than its
    probability. Where all modalities of a sample are drawn, the one with the largest ``v`` is kept,
    which is one at random. Samples whose ``w`` is not less than their ``gate`` keep all.

    Args:
        probabilities: ``[B, M]``.
        draws: ``[B, 2 M + 1]``, uniform from 0 to 1.
        gate: ``[B]``, the probability with which a sample is substituted at all; None: 1.

    Returns:
        bool ``[B, M]``.
    """
    modalities = probabilities.shape[1]
    u, v, w = torch.split(draws, [modalities, modalities, 1], 1)
    drawn = u < probabilities
    stays = torch.zeros_like(drawn).scatter(-1, v.argmax(-1, keepdim=True), True)
    drawn = drawn & ~(stays & drawn.all(-1, keepdim=True))
    return drawn if gate is None else drawn & (w < gate[:, None])


def _refuse_means(influence: Tensor, means: Tensor | None) -> None:
    if means is not None and means.shape != influence.shape[1:]:
        raise InputError(
            "mean has one influence for each modality",
            got=f"shape {list(means.shape)}",
            expected=f"{list(influence.shape[1:])}",
            remedy="pass mean_influence(influence), or leave it out",
        )


def mean_influence(influence: Tensor, total: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Mean influence of each modality ``[M]`` over the finite rows of ``[B, M]``; 0 without any.

    Args:
        influence: ``[B, M]``.
        total: sums a tensor over several batches, those of all ranks for example.
    """
    sums = finite_sums(influence)
    sums = sums if total is None else total(sums)
    return sums[:-1] / sums[-1].clamp_min(1)


def running_mean(before: Tensor | None, mean: Tensor, weight: float = 0.9) -> Tensor:
    """The next value of an exponential running mean of mean influences ``[M]``.

    A mean of zeros (of a batch without finite influences) changes nothing, and counts as none.

    Args:
        before: the value before; None: there is none.
        mean: of the new batch, ``mean_influence``.
        weight: of what was before.
    """
    if before is None:
        return mean
    before = before.to(mean)
    begun = torch.where(before.any(), before.lerp(mean, 1 - weight), mean)
    return torch.where(mean.any(), begun, before)


def finite_sums(influence: Tensor) -> Tensor:
    """``[M + 1]``: the sums of the finite rows of ``[B, M]``, and the number of these rows."""
    finite = influence.isfinite().all(-1)
    # float64, because an epoch adds up many of them; Apple's mps has none.
    dtype = torch.float32 if influence.device.type == "mps" else torch.float64
    sums = influence.masked_fill(~finite[:, None], 0).sum(0, dtype=dtype)
    return torch.cat([sums, finite.sum()[None].to(dtype)])


@lru_cache
def cap(p_max: float, batch: int) -> int:
    """``floor(p_max * batch)`` for the decimal number that was written: ``0.29 * 100`` is 29."""
    return math.floor(Fraction(repr(float(p_max))) * batch)
