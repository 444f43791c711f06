"""What is compared of each sample: the values of one audit, by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..functional import dominant
from ..measures import floor_of
from .saved_audit import Audited

__all__ = ["has_accuracy", "values_of"]


def values_of(audit: Audited, names: Sequence[str], *, labelled: bool) -> dict[str, Tensor]:
    """The values of all N samples.

    Args:
        audit: the audit.
        names: the modalities, in the order of the columns.
        labelled: whether accuracies are wanted; see ``has_accuracy``.

    Returns:
        float64 ``[N, K]`` by metric: K is 1 for ``accuracy``, else the number of modalities.
        What the audit does not have (Shapley values of more than eight modalities) is left out.
    """
    found: dict[str, Tensor] = {}
    if labelled:
        label = audit.columns["label"][:, None]
        kinds: Mapping[str, Tensor | None] = {
            "accuracy": audit.columns["predicted"][:, None],
            "accuracy_without": audit.of_each("without", names),
            "accuracy_alone": audit.of_each("alone", names),
        }
        for metric, predicted in kinds.items():
            if predicted is not None:
                right = (predicted == label).double()
                found[metric] = right.where(predicted.isfinite(), torch.nan)
    influence = audit.of_each("CI", names)
    assert influence is not None  # refused where the audit was read
    first = dominant(influence, floor_of(audit.facts["measure"]))
    found["influence"] = influence
    found["dominance"] = (first[:, None] == torch.arange(len(names))).double()
    shapley = audit.of_each("shapley", names)
    return found if shapley is None else {**found, "shapley": shapley}


def has_accuracy(audit: Audited) -> bool:
    """Whether there are labels, all of which are classes of the head."""
    known = "label" in audit.columns and "predicted" in audit.columns
    accuracy = audit.facts.get("accuracy") or {}
    return known and accuracy.get("mean") is not None
