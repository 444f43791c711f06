"""The autograd graph: from what a tensor was computed, and by which layers with weights."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

__all__ = ["ancestors", "ancestors_of", "layers_between"]

_LAYERS = re.compile("(Addm|Mm|Mv|B?addbmm|Bmm|Convolution|Linear|MkldnnLinear|_?Trilinear)")
"""How the autograd nodes of layers begin that multiply their input by weights."""

_OF_FIRST = ("WeightNorm", "Div")
"""Nodes that lead to a weight through the first of their parents: a weight divided by its norm."""

_MOST_HOPS = 4
"""The most nodes between a layer and its weight: a transposition, a cast of autocast, a view."""


def ancestors(tensor: Tensor, stop_at_layers: bool) -> Iterator[Node]:
    """Every node of the graph from which a tensor was computed."""
    return ancestors_of(tensor.grad_fn, stop_at_layers)


def ancestors_of(start: Node | None, stop_at_layers: bool = False) -> Iterator[Node]:
    """A node and every node before it."""
    seen: set[Node] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if not (stop_at_layers and _weight(node) is not None):
            waiting += [parent for parent, _ in node.next_functions]


def layers_between(tensor: Tensor, nodes: Collection[Node]) -> list[Tensor]:
    """The weights of the layers by which a tensor was computed from these nodes, in their order."""
    order = list(ancestors(tensor, stop_at_layers=False))
    children: dict[Node, list[Node]] = {}
    for node in order:
        for parent, _ in node.next_functions:
            if parent is not None:
                children.setdefault(parent, []).append(node)
    later: dict[Node, None] = {}
    waiting = deque(node for node in order if node in nodes)
    while waiting:
        for child in children.get(waiting.popleft(), []):
            if child not in later:
                later[child] = None
                waiting.append(child)
    weights = [_weight(node) for node in later if node not in nodes]
    return [weight for weight in weights if weight is not None]


def _weight(node: Node) -> Tensor | None:
    """The trained weight of a layer that multiplies its input by it; None of any other node."""
    if not _LAYERS.match(node.name()):
        return None
    for parent, _ in node.next_functions:
        ancestor: Node | None = parent
        for _ in range(_MOST_HOPS):
            if ancestor is None:
                break
            variable: Any = getattr(ancestor, "variable", None)
            if isinstance(variable, nn.Parameter) and variable.dim() > 1:
                return variable
            following = [parent for parent, _ in ancestor.next_functions if parent is not None]
            single = len(following) == 1 or ancestor.name().startswith(_OF_FIRST)
            ancestor = following[0] if single and following else None
    return None
