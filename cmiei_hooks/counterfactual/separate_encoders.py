"""Is the head called once for each modality? Each call then follows an encoder of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.autograd.graph import Node

from ..fusion import unwrapped
from .autograd_graph import ancestors_of

__all__ = ["separate_encoders"]


def separate_encoders(calls: Sequence[Node | None], model: nn.Module) -> tuple[str, ...]:
    """For each call a module that it follows and no other call does; empty if one has none.

    Args:
        calls: the nodes that computed what the head returned.
        model: whose parameters are looked for in front of them.
    """
    if len(calls) < 2 or None in calls:
        return ()
    names = {id(p): name for name, p in model.named_parameters()}
    reached = [_parameters(node, names) for node in calls if node is not None]
    found = []
    for i, own in enumerate(reached):
        others = set().union(*(reached[:i] + reached[i + 1 :]))
        alone = [name for name in names.values() if name in own - others]
        if not alone:
            return ()
        found.append(unwrapped(alone[0].rpartition(".")[0] or alone[0]))
    return tuple(found)


def _parameters(node: Node, names: dict[int, str]) -> set[str]:
    leaves = (getattr(one, "variable", None) for one in ancestors_of(node))
    return {names[id(leaf)] for leaf in leaves if id(leaf) in names}
