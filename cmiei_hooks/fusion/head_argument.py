"""What users pass as the head: names, or the modules themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import nn

from .._torch import original
from ..errors import HeadError
from .head import DISCOVER, module_named, unwrapped
from .refusals import refuse_non_module
from .suggestions import suggested_heads

__all__ = ["HeadLike", "head_names"]

HeadLike: TypeAlias = "str | nn.Module | Sequence[str | nn.Module] | Mapping[str, str | nn.Module]"
"""The head in ``attach``, ``verify`` and ``audit``: a module of the model or its name; for a chain,
a list of them; for the logits of each modality, a dict of its names and modules."""


def head_names(
    model: nn.Module, head: HeadLike | None
) -> str | Sequence[str] | Mapping[str, str] | None:
    """The head, with each module given by its name.

    Args:
        model: the model, which may be wrapped or compiled.
        head: names and modules. Anything else is left to the check of ``HEAD``.

    Raises:
        HeadError: a module is not in the model.

    Example:
        >>> head_names(model, [model.bottleneck, "classifier"])
        ['bottleneck', 'classifier']
    """
    if isinstance(head, nn.Module):
        return _name(model, head)
    if isinstance(head, (list, tuple)):
        return [_name(model, one) if isinstance(one, nn.Module) else one for one in head]
    if isinstance(head, Mapping):
        return {
            key: _name(model, one) if isinstance(one, nn.Module) else one
            for key, one in head.items()
        }
    return head  # type: ignore[return-value]  # a sequence of another type holds names


def _name(model: nn.Module, head: nn.Module) -> str:
    """The name of a module in the bare model."""
    refuse_non_module(model)
    for path, module in model.named_modules(remove_duplicate=False):
        if original(module) is original(head):
            short = unwrapped(path)
            found = module_named(model, short)
            return short if found is not None and original(found) is original(head) else path
    raise HeadError(
        "the head is not a module of this model",
        got=f"a {type(head).__name__} that model.modules() does not have",
        expected="a module of the model that is attached to, such as model.classifier, or its name",
        remedy="take it from this very model (a copy or a wrapper such as get_peft_model may have "
        "put another module in its place), or pass its name; modules that may be the head: "
        f"{suggested_heads(dict(model.named_modules()))}; {DISCOVER}",
    )
