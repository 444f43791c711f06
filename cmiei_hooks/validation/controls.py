"""The controls: as many samples as the method replaces, but others and in another modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..functional import KEPT
from ..fusion import Captured, Path
from ..settings import Config
from ..training import Handle, noise_generator, substituted

__all__ = ["Counting", "Replacing", "drawn", "zeroed"]


class Counting:
    """A pre-hook behind that of the Handle: how many samples it replaced in each of its steps."""

    def __init__(self, handle: Handle, counts: list[int]) -> None:
        self._handle, self._counts = handle, counts

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """The signature of a forward pre-hook; a recompute of checkpointing is not a step."""
        handle, last = self._handle, self._handle.last
        if not module.training or handle.step == len(self._counts):
            return
        measured = len(self._counts) % handle.config.k == 0 and last is not None
        self._counts.append(int((last.substituted != KEPT).sum()) if measured and last else 0)


class Replacing:
    """In place of the selection: random samples, as many as another run replaced in that step.

    Args:
        counts: of the other run, for each step.
        kind: ``random``: a random modality of each, replaced as the method would; ``dropout``: set
            to zero, as modality dropout does.
        seed: of what is drawn.
        together: one modality for the whole batch (``SAMPLE_LEVEL False``).
    """

    def __init__(self, counts: Sequence[int], kind: str, seed: int, together: bool = False) -> None:
        self._counts, self._kind, self._seed = list(counts), kind, seed
        self._together = together

    def chosen(self, step: int, captured: Captured) -> Tensor | None:
        """See ``pipeline.Control``."""
        count = self._counts[step] if step < len(self._counts) else 0
        return self._drawn(step, captured)[0] if count else None

    def replaced(self, step: int, captured: Captured, config: Config) -> dict[Path, Tensor]:
        """See ``pipeline.Control``; the same in a recompute."""
        chosen, generator = self._drawn(step, captured)
        if self._kind == "random":
            return substituted(captured, chosen, config, generator)
        return zeroed(captured, chosen)

    def _drawn(self, step: int, captured: Captured) -> tuple[Tensor, torch.Generator]:
        generator = noise_generator(captured.device, "control", self._seed, step)
        modalities, count = len(captured.groups), self._counts[step]
        return drawn(captured.batch, modalities, count, generator, self._together), generator


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
