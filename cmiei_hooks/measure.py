"""One measurement: the head run again, complete and without each modality in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .call import Call, with_values
from .errors import HeadError
from .functional import batch_mean, counterfactual_influence, least_logits
from .head import Head
from .output import read_logits, read_tensor
from .partition import Captured
from .quiet import copied, quiet

__all__ = ["Counterfactuals", "logits_of", "measure", "rerun"]


@dataclass(frozen=True)
class Counterfactuals:
    """What one call of the head showed; everything detached."""

    influence: Tensor
    """``[B, M]``, float32 (float64 for a float64 head)."""
    logits: Tensor
    """``[B, C]``, from the complete input."""
    counterfactual_logits: Tensor
    """``[M, B, C]``; entry m without modality m."""


def measure(head: Head, captured: Captured) -> Counterfactuals:
    """Influence of each modality on each sample of one call of the head.

    To be called from inside a pre-hook of the first link: it is re-entered through ``forward``, so
    that nobody's hooks run twice and whatever must run before the head (weight norm, FSDP) has run.

    Raises:
        InputError, OutputError, HeadError: the call does not hold the modalities, returns no
            logits, or a later link cannot be run from here.
    """
    others = captured.call_with(dict.fromkeys(captured.tensors))
    with quiet(head.whole, captured.device) as rewind:

        def logits_without(modality: int | None) -> Tensor:
            rewind()
            # Copies: the head may begin with an in-place ReLU, or fill a list that it is given.
            variant = captured.copies()
            if modality is not None:
                for piece in captured.views(variant, modality):
                    piece.copy_(_baseline(piece, head.drop))
            call = with_values(copied(others, {}), variant)
            return rerun(head, call, captured.batch).clone()  # it may reuse its output

        logits = logits_without(None)
        modalities = range(len(captured.groups))
        counterfactual = torch.stack([logits_without(m) for m in modalities])
        influence = counterfactual_influence(logits, counterfactual, head.measure)
    return Counterfactuals(influence, logits, counterfactual)


def logits_of(head: Head, captured: Captured, call: Call) -> Tensor:
    """The logits ``[B, C]`` that one call of the head will give, found without a trace."""
    with quiet(head.whole, captured.device):
        return rerun(head, copied(call, {}), captured.batch).clone()


def rerun(head: Head, call: Call, batch: int) -> Tensor:
    """Run all links of the head on a call that may be written into; to be used under ``quiet``."""
    returned = _reenter(head.first, *call)
    links = zip(head.names, head.outputs, head.links[1:], strict=False)
    for name, output, link in links:
        returned = _run_later(link, read_tensor(returned, output, name))
    return read_logits(returned, head.outputs[-1], batch, least_logits(head.measure))


def _reenter(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return head.forward(*args, **kwargs)


def _run_later(link: nn.Module, features: Tensor) -> Any:
    """A later link, which is not inside its own call: what must run before it has not."""
    if any(hasattr(parameter, "to_local") for parameter in link.parameters()):
        raise HeadError(
            "a later link of the chain has sharded parameters of its own",
            got=f"{type(link).__name__} with DTensor parameters",
            expected="links whose parameters are whole while the first one runs",
            remedy="shard a module that contains all links, or only the first one",
        )
    args: Any = (features,)
    for hook in list(link._forward_pre_hooks.values()):
        # Weight norm, spectral norm and pruning compute the weight; other hooks run once, later.
        if type(hook).__module__.startswith(_OWN_HOOKS):
            hook(link, args)
    return link.forward(*args)


_OWN_HOOKS = "torch.nn.utils."


def _baseline(piece: Tensor, drop: str) -> Tensor:
    return batch_mean(piece).expand_as(piece) if drop == "mean" else torch.zeros_like(piece)
