"""The controls: as many samples as the method replaces, but others and in another modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..attach import Handle
from ..call import Call
from ..functional import KEPT
from ..partition import Captured
from ..substitution import noise_generator, substituted

__all__ = ["Replacing", "drawn", "zeroed"]


class Replacing:
    """A pre-hook behind that of the Handle: counts what it replaces, or replaces as a control.

    Args:
        handle: of the attachment; of a control it only measures.
        given: of a control, how many samples are replaced in each training-mode call of the head.
        counts: of the method, gets how many it replaced.
        kind: ``random``: a random modality of random samples, replaced as the method would;
            ``dropout``: set to zero, as modality dropout does.
        seed: of what is drawn.
    """

    def __init__(
        self, handle: Handle, given: Sequence[int] | None, counts: list[int], kind: str, seed: int
    ) -> None:
        if handle._pipeline is None:
            return
        self._handle, self._head = handle, handle._pipeline.head
        self._given, self._counts = None if given is None else list(given), counts
        self._kind, self._seed = kind, seed
        self._calls = 0
        self._head.first.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | None:
        """The signature of a forward pre-hook; a recompute of checkpointing is not a call."""
        if not module.training or self._handle.step == self._calls:
            return None
        number, self._calls = self._calls, self._handle.step
        if self._given is None:
            last = self._handle.last
            measured = number % self._handle.config.k == 0 and last is not None
            self._counts.append(int((last.substituted != KEPT).sum()) if measured and last else 0)
            return None
        count = self._given[number] if number < len(self._given) else 0
        if not count:
            return None
        captured = self._head.partition.read(args, kwargs)
        generator = noise_generator(captured.device, "control", self._seed, number)
        chosen = drawn(captured.batch, len(captured.groups), count, generator)
        if self._kind == "random":
            return captured.call_with(substituted(captured, chosen, self._handle.config, generator))
        return captured.call_with(zeroed(captured, chosen))


def drawn(batch: int, modalities: int, count: int, generator: torch.Generator) -> Tensor:
    """int64 ``[B]``: a random modality for ``count`` random samples, -1 for the others."""
    device = generator.device
    rows = torch.randperm(batch, generator=generator, device=device)[:count]
    which = torch.randint(modalities, (len(rows),), generator=generator, device=device)
    return torch.full((batch,), KEPT, device=device).index_copy(0, rows, which)


def zeroed(captured: Captured, chosen: Tensor) -> dict[Any, Tensor]:
    """The tensors of a call with the chosen modality of each sample set to zero."""
    tensors = captured.copies()
    for m in range(len(captured.groups)):
        for piece in captured.views(tensors, m):
            rows = (chosen == m).view(-1, *(1,) * (piece.dim() - 1))
            piece.copy_(piece.masked_fill(rows, 0))
    return tensors
