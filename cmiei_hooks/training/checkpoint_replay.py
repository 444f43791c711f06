"""What was done to a call, for the recompute of that call by activation checkpointing.

In backward, checkpointing runs the forward a second time. Gradients are right only if the head
gets the very same input again: the same rows, the same modality, the same noise. What a recompute
repeats is known by the object that checkpointing keeps for each region between the two passes;
within a region, calls are known by their order. This looks into ``torch.utils.checkpoint``; nothing
else does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .._torch import current_backward
from ..errors import InputError

__all__ = ["Done", "Replays", "in_checkpointed_region", "may_be_recomputed"]


@dataclass(slots=True)  # not frozen: one is made in every call, and that would take longer
class Done:
    """What was done to one call of the head."""

    step: int
    chosen: Tensor | None
    """int64 ``[B]``; None: nothing was substituted."""


@dataclass
class _Region:
    calls: list[Done] = field(default_factory=list)
    backward: int = -1
    """The backward pass that is recomputing the region, and how many calls it has repeated."""
    repeated: int = 0


class Replays:
    """The calls made in checkpointed regions; forgotten with the graph they belong to."""

    def __init__(self) -> None:
        self._regions: WeakKeyDictionary[Any, _Region] = WeakKeyDictionary()
        self.acted = False
        """Whether anything was ever substituted."""

    def remember(self, done: Done) -> None:
        """Keep what was done to the call being made, if it may be recomputed."""
        if may_be_recomputed():
            for region in _regions():
                self._calls_of(region).append(done)
        self.acted |= done.chosen is not None

    def recall(self) -> Done | None:
        """What was done to the call that is being recomputed; None if it was made unseen.

        Raises:
            InputError: something was substituted, and the recompute is not one of
                ``torch.utils.checkpoint``.
        """
        found = list(_regions())
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

    def _calls_of(self, region: _Around) -> list[Done]:
        return self._regions.setdefault(region.key, _Region()).calls

    def _next(self, region: _Region) -> Done | None:
        backward = current_backward()
        if region.backward != backward:
            region.backward, region.repeated = backward, 0
        region.repeated += 1
        return region.calls[region.repeated - 1] if region.repeated <= len(region.calls) else None


@dataclass(frozen=True)
class _Around:
    """A checkpointed region around the caller."""

    key: Any
    """What checkpointing keeps for the region between its two passes."""
    recomputing: bool


def _regions() -> Iterator[_Around]:
    """The checkpointed regions around the caller, from the inside out."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        of_torch = code.co_filename == torch.utils.checkpoint.__file__
        # The locals of other people's frames are not touched: reading them would keep them alive.
        if of_torch and code.co_name == "unpack_hook":
            yield _Around(frame.f_locals["frame"], recomputing=True)  # not reentrant, in backward
        elif of_torch and "gen" in code.co_varnames:
            generator = frame.f_locals.get("gen")  # not reentrant, in forward
            if generator is not None and generator.gi_frame is not None:
                yield _Around(generator.gi_frame.f_locals["new_frame"], recomputing=False)
        elif code.co_name in ("forward", "backward") and code.co_varnames[:1] == ("ctx",):
            function = frame.f_locals.get("ctx")  # reentrant: an autograd.Function, in both passes
            if isinstance(function, FunctionCtx):
                yield _Around(function, recomputing=code.co_name == "backward")
        frame = frame.f_back


def in_checkpointed_region() -> bool:
    """Whether the call being made here is part of a checkpointed region, in either pass."""
    return next(_regions(), None) is not None


def may_be_recomputed() -> bool:
    """Whether the call being made here may be under activation checkpointing.

    The reentrant kind turns gradient off, the other kind hooks into the saving of tensors.
    """
    if not torch.is_grad_enabled():
        return True
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is None or hooks(True) is not None  # None: an old torch; cannot be excluded
