"""What a reader of the report must know about the samples."""

from __future__ import annotations

from ..fusion import Head, ends_in_probabilities
from .collected import Collected
from .samples import Samples

__all__ = ["notes_of"]


def notes_of(found: Collected, head: Head, samples: Samples) -> list[str]:
    """What is left out or uncertain, and why: one sentence or two for each."""
    notes = []
    if found.hidden:
        notes.append(
            "The head is not the last part of the model, as you have said (features_head): the "
            f"model returns {found.hidden.removeprefix('the model returns ')}. All values are of "
            "what the head itself returns, so there is no accuracy."
        )
    if kind := _probabilities(head, samples):
        inverse = "torch.logit" if "sigmoid" in kind else "torch.log"
        notes.append(
            f"The head returns probabilities ({kind}), not logits. Taken for logits they hardly "
            "differ, so the influence is many times too small. Name a head that returns the "
            f"logits, or turn them back with output={inverse}."
        )
    labelled = sum(part.label is not None for part in found.parts)
    if 0 < labelled < len(found.parts):
        count = f"{labelled} of {len(found.parts)} batches"
        notes.append(f"Accuracy is left out: only {count} have labels.")
    if found.drew:
        notes.append("The model draws random numbers in this mode: another run gives other values.")
    return [*notes, *_notes_of_baselines(found, samples)]


def _probabilities(head: Head, samples: Samples) -> str:
    """How it is known that the head returns probabilities; empty if it does not."""
    if head.measure == "squared":
        return ""
    finite = samples.logits.usable
    if finite.sum() > 1 and samples.logits.probabilities[finite].all():
        return "every row is at least 0 and sums to 1"
    last = "" if head.outputs[-1] else ends_in_probabilities(head.last, samples.influence)
    return f"it ends in {last}" if last else ""


def _notes_of_baselines(found: Collected, samples: Samples) -> list[str]:
    if found.not_repeated:
        return [
            "The baselines mean and permuted are left out: the head must run again when all "
            f"samples are known, and apart from the model it does not do the same "
            f"({found.not_repeated})."
        ]
    notes = []
    if found.first:
        notes.append(
            f"The baselines mean and permuted are made of the first {found.first} samples alone, "
            "since the inputs of the head take much memory. They depend on the order of the "
            "samples."
        )
    alone = int((samples.logits.usable & samples.baselines["mean"].isnan().all(-1)).sum())
    if alone:
        notes.append(
            f"The baselines mean and permuted are unknown for {alone} of {len(samples)} samples, "
            "and are averaged without them: no other sample has features of the same shape."
        )
    return notes
