"""Decisions that are averaged: each modality has a branch that gives logits, and the model combines
them.

The head is then no module of the model. It is a module of this package, called with the logits of
the branches, that combines them as the model does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .._torch import out_of_memory
from ..errors import HeadError, SplitsError
from .arguments import describe
from .logits import Output, Outputs, outputs_of

__all__ = ["Branch", "Combination", "Combine", "branches_of", "combination_name"]

Combine: TypeAlias = "str | Callable[[list[Tensor]], Tensor]"
"""How the logits of the branches become those of the model: ``"sum"``, ``"mean"``, or a function of
the list of them, in the order of the branches."""


@dataclass(frozen=True)
class Branch:
    """What gives the logits of one modality."""

    modality: str
    name: str
    """The path of its module."""
    module: nn.Module
    call: int
    """Which call of the module in one forward of the model it is, from 0: one classifier may serve
    all modalities."""
    calls: int
    """How many branches this module serves."""
    output: Output
    """Which part of the return value is the logits."""

    @property
    def label(self) -> str:
        """The name, with the number of the call if the module serves several branches."""
        return self.name if self.calls == 1 else f"{self.name} (call {self.call + 1})"


class Combination(nn.Module):
    """The head of a model with branches: it receives their logits by keyword, and combines them."""

    def __init__(self, combine: Combine) -> None:
        super().__init__()
        self.combine = combine  # a module becomes part of this one, and its buffers are kept

    def forward(self, **logits: Tensor) -> Tensor:
        """The logits of the model."""
        given = list(logits.values())
        if self.combine == "sum":
            return sum(given[1:], start=given[0])
        if self.combine == "mean":
            return torch.stack(given).mean(0)
        return self._by_function(given)

    def _by_function(self, given: list[Tensor]) -> Tensor:
        assert callable(self.combine)
        try:
            found = self.combine(given)
        except Exception as error:  # a function of the user's can raise anything
            if out_of_memory(error):
                raise
            got = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise self._refused(f"{got} for {describe(given)}") from error
        if not isinstance(found, Tensor):
            raise self._refused(f"it returned {describe(found)}")
        return found

    @staticmethod
    def _refused(got: str) -> HeadError:
        return HeadError(
            "combine= cannot combine the logits of the branches",
            got=got,
            expected="a function of the list of the branches' logits [B, C] that returns [B, C]",
            remedy="pass 'sum', 'mean', or such a function: combine=lambda z: 0.7 * z[0] + "
            "0.3 * z[1]",
        )


def combination_name(branches: Sequence[Branch], combine: Combine) -> str:
    """What the log calls the head: ``mean(clf_rgb, clf_depth)``."""
    how = combine if isinstance(combine, str) else "combine"
    return f"{how}({', '.join(branch.label for branch in branches)})"


def branches_of(
    head: Mapping[str, str], find: Callable[[str], nn.Module], output: Outputs
) -> tuple[Branch, ...]:
    """The branches of ``head={modality: module, ...}``.

    Args:
        head: names of modalities and of modules. A module that is named several times is called
            once for each, in this order.
        find: returns the module of a name, or refuses it.
        output: which part of what a branch returns is its logits; one for all, or one for each.

    Raises:
        HeadError: as ``find``.
        OutputError: there is not one output for each.
        SplitsError: a branch is inside of another one.
    """
    if isinstance(output, str) or not isinstance(output, Sequence):
        output = [output] * len(head)
    outputs = outputs_of(output, head, "branch")
    modules = {name: find(name) for name in head.values()}
    total = Counter(id(modules[name]) for name in head.values())
    seen: Counter[int] = Counter()
    found = []
    for (modality, name), one in zip(head.items(), outputs, strict=True):
        module = modules[name]
        key = id(module)
        found.append(Branch(modality, name, module, seen[key], total[key], one))
        seen[key] += 1
    for branch in found:
        inside = [b for b in found if _inside(branch.module, b.module)]
        if inside:
            raise SplitsError(
                "a branch is inside of another one",
                got=f"{branch.name!r} in {inside[0].name!r}",
                expected="branches of which each gives the logits of one modality",
                remedy="name for each modality the module that returns its logits",
            )
    return tuple(found)


def _inside(inner: nn.Module, outer: nn.Module) -> bool:
    return inner is not outer and any(module is inner for module in outer.modules())
