"""The controls: as many samples as the method replaces, but others and in another modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional import KEPT
from ..fusion import Captured, Path
from ..settings import Config
from ..training import HeadCall, Noise, Published, noise_generator, substituted

__all__ = ["Counting", "Replacing", "drawn", "zeroed"]


class Counting:
    """The method, with a list of how many samples it replaced in each training call."""

    every_step = True

    def __init__(self, config: Config, noise: Noise, counts: list[int]) -> None:
        self._method, self._counts = Published(config, noise), counts

    def choose(self, call: HeadCall) -> Tensor | None:
        """See ``training.Strategy``."""
        chosen = self._method.choose(call)
        self._counts.append(0 if chosen is None else int((chosen != KEPT).sum()))
        return chosen

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """See ``training.Strategy``."""
        return self._method.replace(captured, chosen, step)


class Replacing:
    """Random samples instead of triggered ones, as many as another run replaced in each call.

    Args:
        config: the settings in force.
        counts: of the other run, for each call.
        kind: ``random``: a random modality of each sample, replaced as the method would;
            ``dropout``: set to zero, as modality dropout does.
        seed: of what is drawn.
    """

    every_step = True

    def __init__(self, config: Config, counts: Sequence[int], kind: str, seed: int) -> None:
        self._config, self._counts, self._kind, self._seed = config, list(counts), kind, seed

    def choose(self, call: HeadCall) -> Tensor | None:
        """See ``training.Strategy``."""
        count = self._counts[call.step] if call.step < len(self._counts) else 0
        return self._drawn(call.step, call.captured)[0] if count else None

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """See ``training.Strategy``."""
        if self._kind == "random":
            return substituted(captured, chosen, self._config, self._drawn(step, captured)[1])
        return zeroed(captured, chosen)

    def _drawn(self, step: int, captured: Captured) -> tuple[Tensor, torch.Generator]:
        generator = noise_generator(captured.device, "control", self._seed, step)
        modalities, count = len(captured.groups), self._counts[step]
        together = not self._config.sample_level
        return drawn(captured.batch, modalities, count, generator, together), generator


def drawn(
    batch: int, modalities: int, count: int, generator: torch.Generator, together: bool = False
) -> Tensor:
    """int64 ``[B]``: a random modality for ``count`` random samples, -1 for the others."""
    device = generator.device
    rows = torch.randperm(batch, generator=generator, device=device)[:count]
    shape = (1 if together else len(rows),)
    which = torch.randint(modalities, shape, generator=generator, device=device)
    return torch.full((batch,), KEPT, device=device).index_copy(0, rows, which.expand(len(rows)))


def zeroed(captured: Captured, chosen: Tensor) -> dict[Path, Tensor]:
    """The tensors of a call with the chosen modality of each sample set to zero."""
    tensors = captured.copies()
    for m in range(len(captured.groups)):
        for piece in captured.views(tensors, m):
            rows = (chosen == m).view(-1, *(1,) * (piece.dim() - 1))
            piece.copy_(piece.masked_fill(rows, 0))
    return tensors
