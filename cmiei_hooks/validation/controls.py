"""The controls: strategies that substitute as many samples as the method, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional import KEPT
from ..fusion import Captured, Path
from ..settings import Config
from ..training import HeadCall, Strategy, noise_generator, substituted
from .peers import zeroed

__all__ = ["Counting", "Dropout", "Random", "draw", "draw_several"]


class Counting:
    """Does what another strategy does, and counts how much it substitutes in each step.

    It counts samples, or modalities of samples if a sample may have several substituted.

    Args:
        strategy: the other strategy; it is asked in the steps in which it wants to be.
        counts: gets one number for each training call of the head.
    """

    every_step = True

    def __init__(self, strategy: Strategy, counts: list[int]) -> None:
        self._strategy, self._counts = strategy, counts
        self.replace = strategy.replace

    def choose(self, call: HeadCall) -> Tensor | None:
        """The choice of the other strategy. Waits for the device."""
        asked = call.influence is not None or self._strategy.every_step
        chosen = self._strategy.choose(call) if asked else None
        # A step without an estimate, since the batch lacked a modality, is not asked about.
        self._counts += [0] * (call.step - len(self._counts))
        self._counts.append(0 if chosen is None else _number(chosen))
        return chosen


def _number(chosen: Tensor) -> int:
    return int((chosen if chosen.dtype == torch.bool else chosen != KEPT).sum())


class Random:
    """A random modality of random samples, substituted in the way of the method.

    As with the method, it is the same modality for the whole batch with ``SAMPLE_LEVEL False``, and
    several modalities of a sample, never all, with ``SELECTION soft``.

    Args:
        config: the settings in force.
        counts: how many samples to substitute in each step; with ``SELECTION soft``, how many
            modalities of samples.
        seed: decides which samples and modalities.
    """

    every_step = True

    def __init__(self, config: Config, counts: Sequence[int], seed: int) -> None:
        self._config, self._counts, self._seed = config, counts, seed

    def choose(self, call: HeadCall) -> Tensor | None:
        """As many samples as the count of the step, also in the warm-up."""
        count = self._counts[call.step] if call.step < len(self._counts) else 0
        return self._draw(call.captured, call.step)[0] if count else None

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """Mean plus noise, as in ``functional.substitute``."""
        return substituted(captured, chosen, self._config, self._draw(captured, step)[1])

    def _draw(self, captured: Captured, step: int) -> tuple[Tensor, torch.Generator]:
        """The choice, and the generator of the noise that is drawn after it."""
        generator = noise_generator(captured.device, "control", self._seed, step)
        batch, modalities, count = captured.batch, len(captured.groups), self._counts[step]
        if self._config.selection == "soft":
            return draw_several(batch, modalities, count, generator), generator
        together = not self._config.sample_level
        return draw(batch, modalities, count, generator, together), generator


class Dropout(Random):
    """A random modality of random samples, set to zero: modality dropout."""

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """Zeros."""
        return zeroed(captured, chosen)


def draw(
    batch: int, modalities: int, count: int, generator: torch.Generator, together: bool = False
) -> Tensor:
    """int64 ``[B]``: a random modality for ``count`` random samples, -1 for the others.

    Args:
        batch: B.
        modalities: the number of modalities.
        count: how many samples; all of them if it is more than B.
        generator: source of the choice, on the device of the result.
        together: one modality for all of these samples.
    """
    device = generator.device
    rows = torch.randperm(batch, generator=generator, device=device)[:count]
    shape = (1 if together else len(rows),)
    which = torch.randint(modalities, shape, generator=generator, device=device)
    return torch.full((batch,), KEPT, device=device).index_copy(0, rows, which.expand(len(rows)))


def draw_several(batch: int, modalities: int, count: int, generator: torch.Generator) -> Tensor:
    """Bool ``[B, M]``: ``count`` random modalities of random samples, never all of a sample.

    Args:
        batch: B.
        modalities: M.
        count: how many; at most ``B (M - 1)``.
        generator: source of the choice, on the device of the result.
    """
    device = generator.device
    order = torch.rand(batch, modalities, generator=generator, device=device)
    stays = torch.randint(modalities, (batch, 1), generator=generator, device=device)
    order = order.scatter(1, stays, 2.0)  # behind all others
    first = order.flatten().argsort()[: min(count, batch * (modalities - 1))]
    chosen = torch.zeros(batch * modalities, dtype=torch.bool, device=device)
    return chosen.index_fill(0, first, True).view(batch, modalities)
