"""Which of the tensors that the model returns are computed from which others of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import out_of_memory
from ..counterfactual import isolated
from ..fusion import Path, mapped, tensors, training_branch
from ..training import paused
from .inputs import Inputs
from .trace import device_of

__all__ = ["Feeds", "feeds"]

Feeds = Mapping[Path, frozenset[Path]]
"""For a returned tensor, the other returned tensors that are computed from it."""


def feeds(model: nn.Module, known: Inputs, returned: Sequence[Path]) -> Feeds:
    """Which of these tensors are computed from which others, as far as gradient flows.

    The model runs once more if there are two or more.

    Args:
        model: the bare model.
        known: its call.
        returned: where the tensors are in what the model returns.
    """
    if len(returned) < 2:
        return {}
    try:
        values = dict(tensors(_returned(model, known)))
        return {at: frozenset(_computed_from(values, at, returned)) for at in returned}
    except Exception as error:  # a forward (through numpy) or a function may not allow gradient
        if out_of_memory(error):
            raise
        return {}


def _returned(model: nn.Module, known: Inputs) -> Any:
    args, kwargs = mapped(known.call, _with_gradient)
    with (
        isolated(model, device_of(model, known.call)),
        paused(model),
        training_branch(model),
        torch.enable_grad(),
    ):
        return model(*args, **kwargs)


def _with_gradient(x: Tensor) -> Tensor:
    # A copy of a leaf: the model may write into its inputs. Its parameters may be frozen.
    return x.detach().requires_grad_().clone() if x.is_floating_point() else x.clone()


def _computed_from(values: Mapping[Path, Tensor], at: Path, returned: Sequence[Path]) -> list[Path]:
    source = values.get(at)
    if source is None or not source.requires_grad:
        return []
    ends = [one for one in returned if one != at and one in values and values[one].requires_grad]
    return [
        one
        for one in ends
        if torch.autograd.grad(values[one].sum(), source, retain_graph=True, allow_unused=True)[0]
        is not None
    ]
