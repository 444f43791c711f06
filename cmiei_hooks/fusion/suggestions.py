"""Which modules an error may propose as the head: those that return logits, not layers inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

from torch import nn

__all__ = ["common_module", "inside_adapter", "suggested_heads"]

_ADAPTED = ("base_layer", "original_module")
"""Names under which adapters (PEFT) keep the layer that they replace."""

_NOT_CALLED = (nn.ModuleList, nn.ModuleDict)

_MOST_NAMED = 5


def suggested_heads(modules: Mapping[str, nn.Module], width: int | None = None) -> str:
    """Modules that may be the head, as text: ``'fusion' (104 -> 8)``.

    Each of them begins with a Linear and returns the logits: it is the Linear itself, or the MLP or
    adapter around it. The model itself is never proposed.

    Args:
        modules: of the model, by their paths.
        width: only those that begin with a Linear of this width; None: the last few of all.
    """
    layers = [path for path, module in modules.items() if path and _has_weight(module)]
    found = {}
    for path in layers:
        first = modules[path]
        if not isinstance(first, nn.Linear) or width not in (None, first.in_features):
            continue
        head = _around(path, modules, layers)
        inside = [modules[layer] for layer in _within(head, layers)]
        last = [layer for layer in inside if isinstance(layer, nn.Linear)][-1]
        found[head] = f"{head!r} ({first.in_features} -> {last.out_features})"
    texts = [
        text
        for path, text in found.items()
        if not any(path.startswith(f"{other}.") for other in found)
    ]
    return ", ".join(texts if width else texts[-_MOST_NAMED:]) or "none"


def inside_adapter(path: str) -> bool:
    """Whether an adapter has replaced this module and keeps it inside: its logits lack something.

    Args:
        path: of the module.
    """
    return any(name in _ADAPTED for name in path.split("."))


def common_module(modules: Mapping[str, nn.Module], paths: Sequence[str]) -> str:
    """The path of the smallest module that contains these and is called; "" is the model itself.

    Args:
        modules: of the model, by their paths.
        paths: of some of them.
    """
    split = zip(*(path.split(".") for path in paths), strict=False)
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, split)]
    while common and isinstance(modules[".".join(common)], _NOT_CALLED):
        common.pop()
    return ".".join(common)


def _around(path: str, modules: Mapping[str, nn.Module], layers: Sequence[str]) -> str:
    """The largest module that begins with this layer and has more behind it; else the layer."""
    parent, _, name = path.rpartition(".")
    while parent and not isinstance(modules[parent], _NOT_CALLED):
        inside = _within(parent, layers)
        more = isinstance(modules[parent], nn.Sequential) or len(inside) > 1 or name in _ADAPTED
        if inside[0] not in _within(path, layers) or not more:
            break
        path = parent
        parent, _, name = path.rpartition(".")
    return path


def _within(path: str, layers: Sequence[str]) -> list[str]:
    return [layer for layer in layers if layer == path or layer.startswith(f"{path}.")]


def _has_weight(module: nn.Module) -> bool:
    """Whether it is a layer: with a weight of its own that is not a scale or a bias."""
    return any(
        isinstance(p, nn.UninitializedParameter) or p.dim() > 1
        for p in module.parameters(recurse=False)
    )
