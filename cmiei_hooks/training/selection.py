"""Which modality of which sample is substituted in a call of the head, and by what.

A ``Strategy`` answers both. ``Published`` is the method as published, ``Soft`` selects several
modalities of a sample; a validation passes others to compare them with: ``attach(...,
strategy=make)``, where ``make(config, noise)`` returns one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .. import distributed
from ..counterfactual import variants_of
from ..errors import InputError
from ..functional import (
    cap,
    gate_of,
    mean_influence,
    select,
    select_softly,
    soft_probabilities,
)
from ..fusion import Captured, Head, Path
from ..mean_influence import running_mean
from ..measures import OF_CLASSES, floor_of
from ..settings import Config
from .substitution import Noise, substituted

__all__ = ["HeadCall", "Published", "Soft", "Strategy", "strategy_of"]


@dataclass(frozen=True, slots=True)
class HeadCall:
    """One training call of the head, as a strategy sees it."""

    step: int
    acts: bool
    """Whether the call is after the warm-up and before the end."""
    captured: Captured
    influence: Tensor | None
    """``[B, M]`` in an estimation step; None between two."""
    head: Head


class Strategy(Protocol):
    """Decides what is substituted in a call of the head."""

    every_step: bool
    """Whether it is asked in every training call, and not only in estimation steps."""

    def choose(self, call: HeadCall) -> Tensor | None:
        """int64 ``[B]``: the modality to substitute in each sample, -1 for none.

        To substitute several modalities of a sample: bool ``[B, M]``, never all of a sample. None
        leaves the call alone: the very same tensors go on to the head.
        """

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """The tensors of the call with the chosen modalities substituted.

        When activation checkpointing computes the call again, this is called again with the same
        ``chosen`` and ``step``, and must return equal tensors.
        """


class Published:
    """The method as published: the dominant modality of triggered samples, by mean plus noise."""

    every_step = False

    def __init__(self, config: Config, noise: Noise) -> None:
        self._config, self._noise = config, noise

    def choose(self, call: HeadCall) -> Tensor | None:
        """See ``functional.select``."""
        c = self._config
        if call.influence is None or not call.acts:
            return None
        # With SYNC the answer must not depend on the size of this rank's batch: the other ranks
        # would wait for it.
        most = c.p_max if c.sync else cap(c.p_max, call.captured.batch)
        if c.sample_level and not most:
            return None
        over_ranks = distributed.sum_over_ranks if c.sync else None
        of_batch = c.relative or not c.sample_level
        return select(
            call.influence,
            abs_thr=c.abs_thr,
            rel_thr=c.rel_thr,
            p_max=c.p_max,
            sample_level=c.sample_level,
            relative=c.relative,
            mean=mean_influence(call.influence, over_ranks) if of_batch else None,
            floor=floor_of(c.measure),
        )

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """See ``functional.substitute``."""
        generator = self._noise.generator(captured.device, step)
        return substituted(captured, chosen, self._config, generator)


class Soft(Published):
    """In every estimation step each modality of each sample with a probability, never all of them.

    With ``GATE``, only of samples whose prediction is sure. Between two estimation steps nothing is
    substituted.
    """

    def __init__(self, config: Config, noise: Noise) -> None:
        super().__init__(config, noise)
        self.usual_influence: Tensor | None = None
        """``[M]``, the running mean of the mean influences; None before the first estimate."""

    def choose(self, call: HeadCall) -> Tensor | None:
        """See ``functional.soft_probabilities`` and ``functional.select_softly``."""
        c = self._config
        if call.influence is None or not c.p_max:
            return None
        over_ranks = distributed.sum_over_ranks if c.sync else None
        mean = mean_influence(call.influence, over_ranks)
        self.usual_influence = running_mean(self.usual_influence, mean)
        if not call.acts:
            return None
        probabilities = soft_probabilities(
            call.influence,
            tau_samples=c.tau_samples,
            tau_modalities=c.tau_modalities,
            rate=c.rate,
            mean=mean,
            usual=self.usual_influence,
            floor=floor_of(c.measure),
        )
        generator = self._noise.generator(call.captured.device, call.step, "selection")
        samples, modalities = probabilities.shape
        draws = torch.empty(samples, 2 * modalities + 1, device=probabilities.device)
        return select_softly(probabilities, draws.uniform_(generator=generator), self._gate(call))

    def _gate(self, call: HeadCall) -> Tensor | None:
        """See ``functional.gate_of``; only predictions of classes can be sure."""
        start = self._config.gate
        if start is None or self._config.measure not in OF_CLASSES:
            return None
        with torch.no_grad(), variants_of(call.head, call.captured) as variants:
            parts = [variants.part(m) for m in range(len(call.captured.groups))]
            return gate_of(variants.logits(parts), start)


def refuse_misfit_choice(chosen: Tensor, captured: Captured) -> None:
    """Refuse what is not a choice of modalities for these samples, as a user's strategy may give.

    It does not look at values, which would wait for the device.

    Raises:
        InputError: it is neither int64 ``[B]`` nor bool ``[B, M]``.
    """
    batch, modalities = captured.batch, len(captured.groups)
    shapes = {torch.int64: (batch,), torch.bool: (batch, modalities)}
    if not isinstance(chosen, Tensor) or chosen.shape != shapes.get(chosen.dtype):
        is_tensor = isinstance(chosen, Tensor)
        raise InputError(
            "the strategy does not return a choice of modalities",
            got=f"{chosen.dtype} {list(chosen.shape)}" if is_tensor else type(chosen).__name__,
            expected=f"torch.int64 [{batch}], torch.bool [{batch}, {modalities}] or None",
            remedy="return from choose() the index of a modality for each sample, -1 for none; or "
            "for each sample and modality whether it is substituted",
        )


def strategy_of(config: Config, noise: Noise) -> Strategy:
    """What the settings say (``SELECTION``)."""
    return Soft(config, noise) if config.selection == "soft" else Published(config, noise)
