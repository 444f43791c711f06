"""Is a head one that begins with a Linear, and its call one tensor of neighbouring columns?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import forward_hooks, hooks_on_all_modules, pre_hooks, registry
from ..fusion import Captured, Head
from ..measures import least_logits
from .hook_check import of_this_package

__all__ = ["OF_ROWS", "LinearLayers", "features_of", "layers_of"]


@dataclass(frozen=True)
class LinearLayers:
    """The layers of a head that begins with a Linear, in order."""

    norms: Sequence[nn.Module]
    linears: Sequence[nn.Linear]
    """The only Linear, or the first and the last of several."""
    between: Sequence[nn.Module]
    """Everything between these two Linears."""

    def fit(self, dtype: torch.dtype, width: int) -> bool:
        """Whether each takes what the one before returns, and two or more logits come out.

        Judged by the weights, which a user may have replaced.
        """
        for layer in (*self.norms, self.linears[0], *self.between, *self.linears[1:]):
            if isinstance(layer, nn.Linear):
                fits = layer.weight.dtype == dtype and layer.weight.shape[1] == width
            elif isinstance(layer, nn.BatchNorm1d):
                fits = layer.num_features == width
            else:
                fits = not isinstance(layer, nn.LayerNorm) or layer.normalized_shape == (width,)
            if not fits:
                return False
            width = len(layer.weight) if isinstance(layer, nn.Linear) else width
        return width >= least_logits("kl")


def layers_of(head: Head) -> LinearLayers | None:
    """The layers of a head whose modules are all known and nobody's but torch's; else None."""
    parts = [part for link in head.links for part in _parts(link)]
    taken_as_it_is = all(output is None for output in head.outputs)
    # Hooks on all modules see those inside a Sequential.
    if hooks_on_all_modules() or not (taken_as_it_is and all(map(_bare, parts))):
        return None
    # A subclass may do anything; so may sharded, sparse and quantised parameters.
    own = [p for part in parts for p in registry(part, "_parameters").values() if p is not None]
    if any(type(p) is not nn.Parameter or p.layout is not torch.strided for p in own):
        return None
    linears = [i for i, part in enumerate(parts) if type(part) is nn.Linear]
    if not linears or linears[-1] != len(parts) - 1:
        return None
    norms, between = parts[: linears[0]], parts[linears[0] + 1 : -1]
    if any(type(norm) is not nn.BatchNorm1d for norm in norms):
        return None
    ends: list[Any] = [parts[i] for i in sorted({linears[0], linears[-1]})]
    return LinearLayers(norms, ends, between)


def _parts(module: nn.Module) -> list[nn.Module]:
    """The modules in a Sequential, nested ones flattened; any other module as it is.

    A Sequential with hooks or a replaced ``forward`` is one of the others.
    """
    if type(module) is nn.Sequential and _bare(module):
        return [part for inner in module for part in _parts(inner)]
    return [module]


OF_ROWS: tuple[Any, ...] = (
    nn.Linear, nn.LayerNorm, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh,
    nn.Sigmoid, nn.Softplus,
)  # fmt: skip
"""Layers that treat each row by itself. BatchNorm1d and Dropout do so in eval mode only."""

_FORWARDS: dict[type[nn.Module], Any] = {
    kind: kind.forward for kind in (*OF_ROWS, nn.BatchNorm1d, nn.Dropout, nn.Sequential)
}
"""The methods of torch: a user may replace that of a module or of a class."""


def _bare(module: nn.Module) -> bool:
    """Whether it is a known module with torch's own ``forward``, hooked by this package alone."""
    hooks = [*pre_hooks(module), *forward_hooks(module)]
    own = all(of_this_package(hook.call) for hook in hooks)
    kind = type(module)
    return own and "forward" not in module.__dict__ and kind.forward is _FORWARDS.get(kind)


def features_of(captured: Captured, also: torch.dtype | None = None) -> Tensor | None:
    """The one tensor ``[B, D]`` that is the whole call; None if the call is anything else.

    Args:
        captured: the call.
        also: the type that it may have besides float32 and float64.
    """
    args, kwargs = captured.call
    ((path, first), *others) = captured.tensors.items()
    slices = [one for group in captured.groups for one in group]
    whole = len(args) + len(kwargs) == len(path) == 1 and not others and first.dim() == 2
    rows = captured.dim in (-1, 1) and len(slices) == len(captured.groups)
    single = first.dtype in (torch.float32, torch.float64, also)
    return first.detach() if whole and rows and single and type(first) is Tensor else None
