"""The logits of a Linear with any modalities replaced, from what each modality adds to them.

``P_m = f_m W_m^T`` is what modality m adds, and ``z = sum_m P_m + b``. To replace a modality is to
replace one term, at the price of the columns of one modality instead of the whole head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from .._torch import in_autocast
from ..fusion import Captured, Change, Head
from .isolation import isolated, not_recorded
from .linear_layers import features_of, layers_of

__all__ = ["LinearParts", "linear_parts"]


@contextmanager
def linear_parts(head: Head, captured: Captured) -> Iterator[LinearParts | None]:
    """Inside, the parts of a head that is a Linear; None for any other head.

    It may have any number of BatchNorm1d before it, and receives one tensor ``[B, D]``, as for
    ``influence_of_linear``; any measure will do. For use inside a pre-hook of the first link.
    """
    layers, features = layers_of(head), features_of(captured)
    fit = layers is not None and features is not None and head.partition.widths is not None
    if layers is None or features is None or not fit or len(layers.linears) > 1:
        yield None
        return
    if not layers.fit(features.dtype, sum(captured.widths)) or in_autocast(features.device.type):
        yield None
        return
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(not_recorded())
        rewind: Callable[[], object] = lambda: None  # noqa: E731  # replaced in the next line
        if layers.norms:  # without them nothing is written to
            rewind = stack.enter_context(isolated(head.whole, features.device))
        yield LinearParts(captured, layers.norms, layers.linears[0], rewind)


class LinearParts:
    """The terms of one call; ``Variants`` describes the methods."""

    def __init__(
        self,
        captured: Captured,
        norms: Sequence[nn.Module],
        linear: nn.Linear,
        rewind: Callable[[], object],
    ) -> None:
        self._captured, self._norms, self._linear, self._rewind = captured, norms, linear, rewind

    def part(self, modality: int, change: Change | None = None) -> Tensor:
        """What a modality adds, ``[B, C]``."""
        return self._parts(modality, [change])[0]

    def logits(self, parts: Sequence[Tensor]) -> Tensor:
        """Their sum, always in the same order: equal parts give equal logits, to the bit."""
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total if self._linear.bias is None else total + self._linear.bias

    def logits_of_each(
        self, parts: Sequence[Tensor], modality: int, changes: Sequence[Change]
    ) -> Tensor:
        """The sums ``[K, B, C]`` with each of these changes of one modality."""
        changed = self._parts(modality, changes)
        return self.logits([*parts[:modality], changed, *parts[modality + 1 :]])

    def _parts(self, modality: int, changes: Sequence[Change | None]) -> Tensor:
        """One product for all changes, ``[K, B, C]``: it reads the weights once."""
        (block,) = self._captured.groups[modality]
        columns = slice(block.start, block.stop)
        rows = torch.cat([self._rows(modality, change)[:, columns] for change in changes])
        products = rows @ self._linear.weight[:, columns].T
        return products.view(len(changes), self._captured.batch, -1)

    def _rows(self, modality: int, change: Change | None) -> Tensor:
        """What the Linear receives. A norm treats every column by itself, and sees all of them."""
        changes = {} if change is None else {modality: change}
        (features,) = self._captured.changed(changes).values()
        if self._norms:
            self._rewind()
        for norm in self._norms:
            features = norm.forward(features)
        return features
