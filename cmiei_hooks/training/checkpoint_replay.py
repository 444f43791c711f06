"""What was done to a call, for the recompute of that call by activation checkpointing.

In backward, checkpointing runs the forward a second time. Gradients are right only if the head
gets the very same input again: the same rows, the same modality, the same noise. What a recompute
repeats is known by the object that checkpointing keeps for each region between the two passes;
within a region, calls are known by their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .._torch import (
    MissingNameError,
    Region,
    checkpointed_regions,
    current_backward,
    in_backward,
    saved_tensors_are_hooked,
)
from ..errors import InputError

__all__ = [
    "Done",
    "Replays",
    "in_checkpointed_region",
    "may_be_recomputed",
    "without_backward",
]


@dataclass(slots=True)  # not frozen: one is made in every call, and that would take longer
class Done:
    """What was done to one call of the head."""

    step: int
    chosen: Tensor | None
    """What the strategy chose; None: nothing was substituted."""


@dataclass
class _Calls:
    """The calls of the head in one checkpointed region."""

    done: list[Done] = field(default_factory=list)
    backward: int = -1
    """The backward pass that is recomputing the region, and how many calls it has repeated."""
    repeated: int = 0


class Replays:
    """The calls made in checkpointed regions; forgotten with the graph they belong to."""

    def __init__(self) -> None:
        self._regions: WeakKeyDictionary[Any, _Calls] = WeakKeyDictionary()
        self.acted = False
        """Whether anything was ever substituted."""

    def remember(self, done: Done) -> None:
        """Keep what was done to the call being made, if it may be recomputed.

        Raises:
            MissingNameError: this torch is too new for substitution under checkpointing.
        """
        self.acted |= done.chosen is not None
        if not may_be_recomputed():
            return
        try:
            for region in checkpointed_regions():
                self._calls_of(region).append(done)
        except MissingNameError:
            if self.acted:
                raise

    def recall(self) -> Done | None:
        """What was done to the call that is being recomputed; None if it was never remembered.

        Raises:
            InputError: something was substituted, and the recompute is not one of
                ``torch.utils.checkpoint``.
            MissingNameError: something was substituted, and this torch is too new.
        """
        try:
            return self._recalled()
        except MissingNameError:
            if self.acted:
                raise
            return None  # nothing was ever substituted: there is nothing to repeat

    def _recalled(self) -> Done | None:
        found = list(checkpointed_regions())
        at = next((i for i, region in enumerate(found) if region.recomputing), None)
        known = None if at is None else self._regions.get(found[at].key)
        if known is None:
            if self.acted:
                raise InputError(
                    "the head was called in backward, and it is not known for which forward",
                    got="a recompute by something else than torch.utils.checkpoint, or of a "
                    "forward before attach",
                    expected="activation checkpointing through torch.utils.checkpoint",
                    remedy="use that, or do not substitute (P_MAX 0)",
                )
            return None
        done = self._next(known)
        if done is not None:
            # A checkpoint nested in a recomputed one is new, and will itself be recomputed.
            for region in found[:at]:
                self._calls_of(region).append(done)
        return done

    def _calls_of(self, region: Region) -> list[Done]:
        return self._regions.setdefault(region.key, _Calls()).done

    def _next(self, region: _Calls) -> Done | None:
        backward = current_backward()
        if region.backward != backward:
            region.backward, region.repeated = backward, 0
        region.repeated += 1
        return region.done[region.repeated - 1] if region.repeated <= len(region.done) else None


def in_checkpointed_region() -> bool:
    """Whether the call being made here, without gradient, will be or is being recomputed.

    Only the reentrant kind turns gradient off, and recomputes only if an input needs gradient.
    """
    try:
        return any(region.needs_gradient for region in checkpointed_regions())
    except MissingNameError:  # the region is there, and cannot be identified
        return True


def without_backward() -> bool:
    """Whether the call being made is a recompute through whose graph no gradient will flow.

    The non-reentrant kind only takes the saved tensors from its recompute, which it may break off
    as soon as it has them; gradient flows through the graph of the first pass.
    """
    if not in_backward():
        return False
    regions = checkpointed_regions()
    return any(region.recomputing and not region.needs_gradient for region in regions)


def may_be_recomputed() -> bool:
    """Whether the call being made here may be under activation checkpointing.

    The reentrant kind turns gradient off, the other kind hooks into the saving of tensors.
    """
    return not torch.is_grad_enabled() or saved_tensors_are_hooked()
