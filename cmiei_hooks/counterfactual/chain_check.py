"""Does a chain of modules, run one after the other, give what the model itself computes?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import in_autocast, in_backward, original, transform, untraced
from ..errors import CMIEIError, HeadError
from ..fusion import Call, Captured, Head, read_logits
from ..measures import least_logits
from .hook_check import HookCheck
from .isolation import isolated, not_recorded, private_copy
from .rerun import run_links_and_trace

__all__ = ["ChainCheck", "Expected", "expectation", "tolerance"]

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""The largest difference that is taken for rounding, relative to the largest value."""

_COARSE = 0.05
"""The same for other types, and under autocast."""

_WAITING = 8
"""The largest number of calls of the first link that wait for the last one, as when a model encodes
several views before it classifies any."""


@dataclass(frozen=True)
class Expected:
    """What the last link of a chain must receive and return in a call that is being made."""

    received: Tensor
    logits: Tensor
    """``[B, C]``."""


def expectation(head: Head, captured: Captured, call: Call) -> Expected | None:
    """What a call of the first link with these arguments must lead to; it leaves no trace.

    None for a single module: there is nothing between links that could differ.
    """
    if len(head.links) == 1:
        return None
    with isolated(head.whole, captured.device):
        logits, received = run_links_and_trace(head, private_copy(call, {}), captured)
        return Expected(received.clone(), logits.clone())


class ChainCheck:
    """Compares the first calls of a chain until one is as expected, then removes its hooks.

    It watches the last link, and decides when the model has returned, since the last link may also
    be called with something else. For a single module, only the user's forward hooks are checked.
    Copies (deepcopy, pickle) do nothing.
    """

    def __init__(self, head: Head | None = None, model: nn.Module | None = None) -> None:
        self._head = head
        self._expected: list[tuple[Expected, tuple[bool, ...], bool]] = []
        self._found: list[str] = []
        """What the last link returned instead."""
        self.refusal: HeadError | None = None
        """Why the chain was refused; it stays refused."""
        self._hooks: list[RemovableHandle] = []
        self._run: Callable[..., None] | None = None
        single = head is not None and len(head.links) == 1
        self._hook_check = HookCheck(head) if head is not None and single else None
        if head is not None and model is not None and len(head.links) > 1:
            # Not traced by Dynamo, as the pre-hook.
            self._run = untraced(self._watch)
            ends = (head.last, original(model))
            self._hooks = [module.register_forward_hook(self) for module in ends]

    @property
    def open(self) -> bool:
        """Whether the comparison is still to be made."""
        return bool(self._hooks) or (self._hook_check is not None and self._hook_check.open)

    @property
    def missing(self) -> bool:
        """Whether a call of the first link was not followed by one of the last."""
        return bool(self._expected) and not self._found

    def expect(self, expected: Expected | None) -> None:
        """Say what the model must compute in the call that is being made.

        Raises:
            HeadError: the last link returned something else in the calls before.
        """
        if self._hook_check is not None:
            self._hook_check.arm()
        if expected is None:
            return
        self.settle()
        # A call that was aborted (out of memory) drops out when later ones have filled the list.
        self._expected = [
            *self._expected[1 - _WAITING :],
            (expected, self._modes(), in_autocast(expected.logits.device.type)),
        ]

    def settle(self) -> None:
        """Decide from the calls so far.

        Raises:
            HeadError: the last link was called, and never with what the chain gives it.
        """
        if not self._found or self._head is None:
            return
        self.refusal = HeadError(
            f"the chain {self._head.name} does not give the logits that the model computes",
            got="; ".join(dict.fromkeys(self._found)),
            expected="the same logits: between the links, the model only passes the tensor on",
            remedy="something between the links (an activation, dropout or other random numbers, "
            "scaling, another input, a hook of yours on a link) is not part of the chain: put a "
            "function in its place (torch.relu), name a module that contains it, or fewer links",
        )
        self.close()
        raise self.refusal

    def close(self) -> None:
        """Stop comparing, and remove the hooks."""
        self._expected, self._found = [], []
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._hook_check is not None:
            self._hook_check.close()

    def __call__(self, module: nn.Module, args: Any, returned: Any) -> None:
        """A forward hook of the last link and of the model.

        Raises:
            HeadError: the chain is not what the model computes.
        """
        if self._run is not None and self._expected:
            self._run(module, args, returned)

    def _watch(self, module: nn.Module, args: Any, returned: Any) -> None:
        if self._head is None or in_backward() or transform() is not None:
            return
        if module is not self._head.last:
            self.settle()
            return
        with torch.no_grad(), not_recorded():
            self._compare(self._head, args, returned)

    def _compare(self, head: Head, args: Any, returned: Any) -> None:
        differences = []
        for expected, modes, autocast in self._expected:
            if modes != self._modes():
                continue  # an eval pass after a call that was aborted
            coarse = autocast or in_autocast(expected.logits.device.type)
            differences.append(_difference(head, expected, args, returned, coarse))
        if "" in differences:
            self.close()
        else:
            self._found += [text for text in differences[-1:] if text]

    def _modes(self) -> tuple[bool, ...]:
        return tuple(link.training for link in self._head.links) if self._head else ()

    def __deepcopy__(self, memo: dict[int, Any]) -> ChainCheck:
        return ChainCheck()

    def __reduce__(self) -> tuple[type[ChainCheck], tuple[()]]:
        return ChainCheck, ()


def _difference(
    head: Head, expected: Expected, args: Any, returned: Any, coarse: bool
) -> str | None:
    """How the input and output of the last link differ from what is expected.

    Empty if they do not; None if that cannot be decided from this call.
    """
    batch, least = len(expected.logits), least_logits(head.measure)
    try:
        logits = read_logits(returned, head.outputs[-1], batch, least)
    except CMIEIError as error:
        return f"{error.problem} ({error.got})"
    received = args[0] if args and isinstance(args[0], Tensor) else expected.received
    decided = False
    for what, real, wanted in (
        ("logits", logits, expected.logits),
        ("input of the last link", received, expected.received),
    ):
        if real.shape != wanted.shape:
            return f"{what} {list(real.shape)}, from the chain {list(wanted.shape)}"
        both = real.isfinite() & wanted.isfinite()
        if not both.any():
            continue
        largest = wanted.where(both, 0).abs().amax().item()
        difference = (real - wanted).where(both, 0).abs().amax().item()
        if difference > tolerance(real, wanted, coarse=coarse) * largest:
            return f"{what}: largest difference {difference:.3g} of values up to {largest:.3g}"
        decided |= what != "logits" and largest > 0
    return "" if decided else None


def tolerance(one: Tensor, other: Tensor, *, coarse: bool) -> float:
    """The largest difference that is taken for rounding, relative to the largest value.

    Args:
        one: a tensor.
        other: what it is compared with.
        coarse: whether either was computed under autocast.
    """
    types = () if coarse else (one.dtype, other.dtype)
    return max((_TOLERANCE.get(t, _COARSE) for t in types), default=_COARSE)
