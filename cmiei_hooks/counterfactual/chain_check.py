"""Does a chain of modules, run one after the other, give what the model itself computes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import in_backward, transform
from ..errors import CMIEIError, HeadError
from ..functional import least_logits
from ..fusion import Head, read_logits
from .isolation import in_autocast, unseen
from .rerun import Expected

__all__ = ["ChainCheck"]

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference, relative to the largest value; other types (autocast) may be off by 5 %."""
_COARSE = 0.05

_MOST = 8
"""So many calls of the first link may wait for the last one: two views of a sample, say."""


class ChainCheck:
    """Compares the first calls of a chain until one of them is as expected, then goes.

    It watches the last link, and the model, at whose end it judges: the last link may also have
    been called with something else. A single module needs no such check: ``open`` is False from
    the start. Copies (deepcopy, pickle) do nothing.
    """

    def __init__(self, head: Head | None = None, model: nn.Module | None = None) -> None:
        self._head = head
        self._expected: list[tuple[Expected, tuple[bool, ...], bool]] = []
        self._found: list[str] = []
        """What the last link gave instead."""
        self.refusal: HeadError | None = None
        """Why the chain cannot be used; it stays so."""
        self._hooks: list[RemovableHandle] = []
        self._run: Callable[..., None] | None = None
        if head is not None and model is not None and len(head.links) > 1:
            # Not traced by Dynamo, as the pre-hook.
            self._run = torch.compiler.disable(self._watch)  # type: ignore[no-untyped-call]  # no types in torch
            model = getattr(model, "_orig_mod", model)
            self._hooks = [m.register_forward_hook(self) for m in (head.last, model)]

    @property
    def open(self) -> bool:
        """Whether the comparison is still to be made."""
        return bool(self._hooks)

    @property
    def missing(self) -> bool:
        """Whether a call of the first link was not followed by one of the last."""
        return bool(self._expected) and not self._found

    def expect(self, expected: Expected) -> None:
        """Say what the model must compute in the call that is being made.

        Raises:
            HeadError: the last link gave something else in the calls before.
        """
        self.settle()
        # A call that was broken off (out of memory) is forgotten by and by.
        self._expected = [
            *self._expected[1 - _MOST :],
            (expected, self._modes(), in_autocast(expected.logits.device.type)),
        ]

    def settle(self) -> None:
        """Judge what was seen so far.

        Raises:
            HeadError: the last link was called, and never with what the chain gives it.
        """
        if not self._found or self._head is None:
            return
        self.refusal = HeadError(
            f"the chain {self._head.name} does not give the logits that the model computes",
            got="; ".join(dict.fromkeys(self._found)),
            expected="the same: what stands between the links only passes the tensor on",
            remedy="something between the links (an activation, dropout or other random numbers, "
            "scaling, another input) is not part of the chain: name a module that contains it, or "
            "fewer links",
        )
        self.close()
        raise self.refusal

    def close(self) -> None:
        """Compare no more and take the hooks off."""
        self._expected, self._found = [], []
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __call__(self, module: nn.Module, args: Any, returned: Any) -> None:
        """The signature of a forward hook, of the last link and of the model.

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
        # The comparison is no part of what checkpointing saves and computes again.
        with torch.no_grad(), unseen():
            self._compare(self._head, args, returned)

    def _compare(self, head: Head, args: Any, returned: Any) -> None:
        differences = []
        for expected, modes, autocast in self._expected:
            if modes != self._modes():
                continue  # an eval pass after a call that was broken off
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
    """How what the last link got and gave differs; empty: not at all; None: it cannot be told."""
    batch, least = len(expected.logits), least_logits(head.measure)
    try:
        logits = read_logits(returned, head.outputs[-1], batch, least)
    except CMIEIError as error:
        return f"{error.problem} ({error.got})"
    received = args[0] if args and isinstance(args[0], Tensor) else expected.received
    told = False
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
        types = () if coarse else (real.dtype, wanted.dtype)
        tolerance = max((_TOLERANCE.get(t, _COARSE) for t in types), default=_COARSE)
        if difference > tolerance * largest:
            return f"{what}: largest difference {difference:.3g} of values up to {largest:.3g}"
        told |= what != "logits" and largest > 0
    return "" if told else None
