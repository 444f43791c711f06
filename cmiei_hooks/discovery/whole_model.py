"""The whole model as the head, where nothing smaller receives the modalities apart."""

from __future__ import annotations

import dataclasses

from .attribution import AttributedTensor
from .candidate import Candidate, candidate
from .layout import Layout, listed, tensors_of_modalities
from .observations import Observations

__all__ = ["note_of", "whole_model"]


def whole_model(seen: Observations) -> Candidate | None:
    """The model as its own head, with its cost; None if it cannot be.

    Each modality must be arguments of its own that ``modalities=`` can name, and the model must
    return logits ``[B, C]`` that depend on all of them. Whole numbers (token ids) get a fill value,
    which the user replaces by the id of the padding; of several in one modality the first is
    taken, since masks come after what they mask.
    """
    tensors = _without_masks(seen)
    layout = tensors_of_modalities(seen.root, tensors, seen.names) if tensors else ""
    found = [out for out in seen.root.outputs if seen.alive <= out.modalities and _is_logits(out)]
    if not isinstance(layout, Layout) or not found:
        return None
    logits, count = found[0], len(layout.names)
    record = seen.evaluated.get(seen.root.key)
    same = record is None or logits.address in {out.address for out in record.outputs}
    chosen = candidate(
        ("",),
        layout,
        (logits.address,),
        logits.shape[1],
        reason=f"the whole model, since nothing in it receives the modalities apart; each estimate "
        f"runs it {1 + count} times more",
        called_in_eval=record is not None,
        same_in_eval=same,
    )
    ids = [
        name
        for name in layout.names
        if any(not x.floating for x in tensors if _name(x, seen) == name)
    ]
    return dataclasses.replace(chosen, fill=dict.fromkeys(ids, 0)) if ids else chosen


def note_of(found: Candidate) -> str:
    """What the user should know about this candidate."""
    text = (
        "no module receives separate modalities and leads to logits [B, C] through modules only. "
        "Instead of the whole model, which costs most, the head can be one nn.Module that does "
        "everything from the concatenation to the logits, if the model's code is yours"
    )
    ids = found.fill and listed([f"{name}={one}" for name, one in found.fill.items()])
    return f"{text}. fill: write the id of the padding for {ids}" if ids else text


def _without_masks(seen: Observations) -> list[AttributedTensor]:
    """The inputs of the model that are modalities."""
    kept: list[AttributedTensor] = []
    for x in seen.root.inputs:
        if not x.modalities or not x.modalities <= seen.alive:
            continue
        ids = [one for one in kept if one.modalities == x.modalities and not one.floating]
        if x.floating or not ids:
            kept.append(x)
    return kept


def _is_logits(out: AttributedTensor) -> bool:
    return len(out.shape) == 2 and out.floating and not out.noisy


def _name(x: AttributedTensor, seen: Observations) -> str:
    return "+".join(seen.names[m] for m in sorted(x.modalities))
