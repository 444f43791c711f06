"""One measurement: the head run again, complete and without each modality in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .functional import batch_mean, counterfactual_influence
from .head import Output, read_logits
from .partition import Partition, put_back
from .quiet import quiet

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """What one call of the head showed; everything detached."""

    influence: Tensor
    """``[B, M]``, float32 (float64 for a float64 head)."""
    logits: Tensor
    """``[B, C]``, from the complete input."""
    counterfactual_logits: Tensor
    """``[M, B, C]``; entry m without modality m."""


def measure(
    head: nn.Module,
    partition: Partition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    drop: str,
    kind: str,
    output: Output,
) -> Measured:
    """Influence of each modality on each sample of one call ``head(*args, **kwargs)``.

    To be called from inside a pre-hook of the head: the head is re-entered through ``forward``, so
    that nobody's hooks run twice and whatever must run before the head (weight norm, FSDP) has run.

    Args:
        head: the module whose call this is.
        partition: which part of the input is which modality.
        args: of the call.
        kwargs: of the call.
        drop: ``"zero"`` or ``"mean"``, what stands in for a dropped modality.
        kind: the measure, ``"kl"``.
        output: which part of the return value is the logits.

    Raises:
        InputError, OutputError: the call does not hold the modalities, or returns no logits.
    """
    place, features = partition.find(args, kwargs)
    features = features.detach()

    def logits_of(variant: Tensor) -> Tensor:
        rewind()
        # Every run gets copies: the head may begin with an in-place ReLU or fill a given tensor.
        new_args, new_kwargs = put_back(
            tuple(map(_copied, args)), {k: _copied(v) for k, v in kwargs.items()}, place, variant
        )
        returned = _reenter(head, new_args, new_kwargs)
        return read_logits(returned, output, len(features)).clone()  # it may reuse its output

    with quiet(head, features.device) as rewind:
        logits = logits_of(_copied(features))
        blocks = partition.blocks(features)
        without = [
            logits_of(partition.join_with(blocks, m, _baseline(block, drop)))
            for m, block in enumerate(blocks)
        ]
        counterfactual = torch.stack(without)
        influence = counterfactual_influence(logits, counterfactual, kind)
    return Measured(influence, logits, counterfactual)


def _copied(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return value.copy()
    return value.clone() if isinstance(value, Tensor) else value


def _reenter(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return head.forward(*args, **kwargs)


def _baseline(block: Tensor, drop: str) -> Tensor:
    if drop == "mean":
        return batch_mean(block).expand_as(block)
    return torch.zeros_like(block)
