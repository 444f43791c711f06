"""The logits of one call with some modalities replaced, by the cheaper of two ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..fusion import Captured, Change, Head
from .linear_parts import linear_parts
from .rerun import reruns

__all__ = ["Variants", "variants_of"]


class Variants(Protocol):
    """One call of the head, in which each modality may be replaced in several ways."""

    def part(self, modality: int, change: Change | None = None) -> Any:
        """A modality as it is, or changed; to be used in any number of ``logits``."""

    def logits(self, parts: Sequence[Any]) -> Tensor:
        """The logits ``[B, C]`` from one part of each modality."""

    def logits_of_each(
        self, parts: Sequence[Any], modality: int, changes: Sequence[Change]
    ) -> Tensor:
        """The logits ``[K, B, C]`` with one modality changed in K ways instead of its part."""


@contextmanager
def variants_of(head: Head, captured: Captured) -> Iterator[Variants]:
    """Inside, the logits of a call with any modalities replaced, without a trace.

    A Linear is taken apart (``linear_parts``); any other head is run again (``reruns``). For use
    inside a pre-hook of the first link.

    Example:
        >>> with variants_of(head, captured) as one:
        ...     audio, video = one.part(0), one.part(1)
        ...     without_video = one.logits([audio, one.part(1, torch.zeros_like)])
    """
    with linear_parts(head, captured) as parts:
        if parts is not None:
            yield parts
            return
    with reruns(head, captured) as logits_with:
        yield _Reruns(logits_with)


class _Reruns:
    """Every variant is a run of the head; a part is the change itself."""

    def __init__(self, logits_with: Callable[[Mapping[int, Change]], Tensor]) -> None:
        self._logits_with = logits_with

    def part(self, _: int, change: Change | None = None) -> Change | None:
        return change

    def logits(self, parts: Sequence[Change | None]) -> Tensor:
        return self._logits_with({m: part for m, part in enumerate(parts) if part is not None})

    def logits_of_each(
        self, parts: Sequence[Change | None], modality: int, changes: Sequence[Change]
    ) -> Tensor:
        before, after = parts[:modality], parts[modality + 1 :]
        return torch.stack([self.logits([*before, change, *after]) for change in changes])
