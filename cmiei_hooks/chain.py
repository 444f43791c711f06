"""Does a chain of modules, run one after the other, give the logits that the model itself gives?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .errors import HeadError
from .functional import least_logits
from .head import Head
from .output import read_logits
from .replay import in_backward

__all__ = ["ChainCheck"]

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference, relative to the largest logit; other types (autocast) may be off by 5 %."""


class ChainCheck:
    """Compares once, in a forward hook on the last link.

    A single module needs no such check: ``open`` is False from the start. Copies (deepcopy, pickle)
    do nothing.
    """

    def __init__(self, head: Head | None = None) -> None:
        self._head = head
        self._expected: Tensor | None = None
        self._hook: RemovableHandle | None = None
        self._run: Callable[[Any], None] | None = None
        if head is not None and len(head.links) > 1:
            # Not traced by Dynamo, as the pre-hook.
            self._run = torch.compiler.disable(self._compare)  # type: ignore[no-untyped-call]  # no types in torch
            self._hook = head.last.register_forward_hook(self)

    @property
    def open(self) -> bool:
        """Whether the comparison is still to be made."""
        return self._hook is not None

    def expect(self, logits: Tensor) -> None:
        """The logits ``[B, C]`` that the model must give in the call that is being made.

        Raises:
            HeadError: those of the call before never came.
        """
        if self.missing:
            self.close()
            raise self._unreached()
        self._expected = logits

    @property
    def missing(self) -> bool:
        """Whether logits were expected that have not come yet."""
        return self._expected is not None

    def close(self) -> None:
        """Compare no more and take the hook off."""
        self._expected = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def __call__(self, module: nn.Module, _: Any, returned: Any) -> None:
        """The signature of a forward hook.

        Raises:
            HeadError: the logits of the model are others.
        """
        if self._run is not None and self._expected is not None:
            self._run(returned)

    def _compare(self, returned: Any) -> None:
        if self._head is None or self._expected is None or in_backward():
            return
        expected, head = self._expected, self._head
        self.close()
        least = least_logits(head.measure)
        real = read_logits(returned, head.outputs[-1], len(expected), least).detach()
        if real.shape == expected.shape:
            # Where both are not finite there is nothing to compare.
            both = real.isfinite() & expected.isfinite()
            difference = (real - expected).where(both, 0).abs().amax().item() if len(real) else 0.0
            largest = expected.where(both, 0).abs().amax().item() if len(real) else 0.0
            if difference <= _TOLERANCE.get(real.dtype, 0.05) * largest:
                return
            found = f"largest difference {difference:.3g} of logits up to {largest:.3g}"
        else:
            found = f"logits {list(real.shape)}, from the chain {list(expected.shape)}"
        raise HeadError(
            f"the chain {head.name} does not give the logits that the model computes",
            got=found,
            expected="the same logits: what stands between the links only passes the tensor on",
            remedy="something between the links (an activation, dropout, scaling, another input) "
            "is not part of the chain: name a module that contains it, or fewer links",
        )

    def _unreached(self) -> HeadError:
        names = self._head.names if self._head else ("",)
        return HeadError(
            f"the model called {names[0]!r} without calling {names[-1]!r} after it",
            got="no logits from the last link",
            expected="every link of the chain in one forward pass",
            remedy="name a chain that the model runs through in this mode",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ChainCheck:
        return ChainCheck()

    def __reduce__(self) -> tuple[type[ChainCheck], tuple[()]]:
        return ChainCheck, ()
