"""Accuracy and influence of a trained classifier: complete, without each modality, and alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..functional import counterfactual_influence, dominant

__all__ = ["classification"]


def classification(
    model: nn.Module,
    head: nn.Module,
    splits: Sequence[int],
    names: Sequence[str],
    batches: Iterable[Sequence[Tensor]],
) -> dict[str, float]:
    """The figures of a test set; a missing modality is zeros in the input of the head.

    Args:
        model: is put into eval mode; takes all but the last tensor of a batch.
        head: gets one tensor ``[B, sum(splits)]`` and returns logits ``[B, C]``.
        splits: widths of the modalities.
        names: of the modalities.
        batches: tuples of tensors, the labels ``[B]`` last.

    Returns:
        ``accuracy``, ``accuracy without <name>``, ``worst accuracy missing``, ``accuracy alone
        <name>`` (shares of the samples); mean influence ``CI <name>`` and share of samples that it
        dominates, ``Hist <name>``.
    """
    model.eval()
    count = len(names)
    kept = [set(range(count))]
    kept += [kept[0] - {m} for m in range(count)] + [{m} for m in range(count)]
    correct = torch.zeros(len(kept))
    influence, samples = [], 0
    with torch.no_grad():
        for *inputs, labels in batches:
            logits = torch.stack([_logits(model, head, splits, inputs, keep) for keep in kept])
            correct += (logits.argmax(-1) == labels).sum(1)
            influence.append(counterfactual_influence(logits[0], logits[1 : count + 1]))
            samples += len(labels)
    shares = (correct / samples).tolist()
    measured = torch.cat(influence)
    first = dominant(measured)
    return {
        "accuracy": shares[0],
        **{f"accuracy without {n}": s for n, s in zip(names, shares[1:], strict=False)},
        "worst accuracy missing": min(shares[1 : count + 1]),
        **{f"accuracy alone {n}": s for n, s in zip(names, shares[count + 1 :], strict=True)},
        **{f"CI {n}": float(measured[:, m].mean()) for m, n in enumerate(names)},
        **{f"Hist {n}": float((first == m).float().mean()) for m, n in enumerate(names)},
    }


def _logits(
    model: nn.Module,
    head: nn.Module,
    splits: Sequence[int],
    inputs: Sequence[Tensor],
    keep: set[int],
) -> Tensor:
    def drop(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        blocks = torch.split(args[0], list(splits), dim=1)
        return (
            torch.cat(
                [b if m in keep else torch.zeros_like(b) for m, b in enumerate(blocks)], dim=1
            ),
        )

    hook = head.register_forward_pre_hook(drop)
    try:
        logits: Tensor = model(*inputs)
    finally:
        hook.remove()
    return logits
