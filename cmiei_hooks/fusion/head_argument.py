"""What users pass as the head: names, the modules themselves, and functions between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from .._torch import original
from ..errors import HeadError
from .function_link import FunctionName
from .head import DISCOVER, module_named, unwrapped
from .refusals import refuse_non_module
from .suggestions import suggested_heads

__all__ = ["HeadLike", "head_names"]

HeadLike: TypeAlias = (
    "str | nn.Module | Sequence[str | nn.Module | Callable[[Tensor], Tensor]] | "
    "Mapping[str, str | nn.Module]"
)
"""The head in ``attach``, ``verify`` and ``audit``: a module of the model or its name; for a chain,
a list of them, in which functions may stand between modules; for the logits of each modality, a
dict of its names and modules."""


def head_names(
    model: nn.Module, head: HeadLike | None
) -> str | Sequence[str] | Mapping[str, str] | None:
    """The head, with each module and each function given by its name.

    Args:
        model: the model, which may be wrapped or compiled.
        head: names, modules and functions. Anything else is left to the check of ``HEAD``.

    Raises:
        HeadError: a module is not in the model.

    Example:
        >>> head_names(model, [model.bottleneck, torch.relu, "classifier"])
        ['bottleneck', 'torch.relu', 'classifier']
    """
    if isinstance(head, nn.Module):
        return _name(model, head)
    if isinstance(head, (list, tuple)):
        return [_link_name(model, one) for one in head]
    if isinstance(head, Mapping):
        return {
            key: _name(model, one) if isinstance(one, nn.Module) else one
            for key, one in head.items()
        }
    return head  # type: ignore[return-value]  # a sequence of another type holds names


def _link_name(model: nn.Module, link: str | nn.Module | Callable[[Tensor], Tensor]) -> str:
    if isinstance(link, nn.Module):
        return _name(model, link)
    if isinstance(link, type):
        raise HeadError(
            "a class cannot be a link of a chain",
            got=link.__name__,
            expected="a module of the model, its name, or a function between two modules",
            remedy="pass the function itself, such as torch.relu for nn.ReLU",
        )
    return FunctionName(link) if callable(link) else link


def _name(model: nn.Module, head: nn.Module) -> str:
    """The name of a module in the bare model."""
    refuse_non_module(model)
    for path, module in model.named_modules(remove_duplicate=False):
        if original(module) is original(head):
            short = unwrapped(path)
            found = module_named(model, short)
            return short if found is not None and original(found) is original(head) else path
    stateless = not any(True for _ in (*head.parameters(), *head.buffers()))
    function = "a step that the model does by a function is passed as one, such as torch.relu; "
    raise HeadError(
        "the head is not a module of this model",
        got=f"a {type(head).__name__} that model.modules() does not have",
        expected="a module of the model that is attached to, such as model.classifier, or its name",
        remedy=function
        * stateless
        + "take it from this very model (a copy or a wrapper such as get_peft_model may have "
        "put another module in its place), or pass its name; modules that may be the head: "
        f"{suggested_heads(dict(model.named_modules()))}; {DISCOVER}",
    )
