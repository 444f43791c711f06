"""Soft selection: several modalities of a sample are substituted, each with a probability.

``functional`` has its functions as public names.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import ConfigError
from .mean_influence import mean_influence, refuse_misfit_means, refuse_one_modality
from .measures import FLOOR

__all__ = ["gate_of", "select_softly", "soft_probabilities"]

_TINY = 1e-12


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
    refuse_misfit_means(influence, mean)
    refuse_misfit_means(influence, usual)
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
