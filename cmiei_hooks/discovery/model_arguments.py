"""Where the arguments of the model hold the modalities, if the model itself is the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import CMIEIError
from ..fusion import Path, call_tensors, locate, word_for
from ..settings import Config
from .attribution import ModalitySet
from .input_names import InputNames
from .inputs import Inputs
from .not_modalities import why_no_modality

__all__ = ["FILL", "ModelArguments", "model_arguments"]

FILL = 0
"""What takes the place of whole numbers until the user names the pad id."""


@dataclass(frozen=True)
class ModelArguments:
    """Where the arguments of the model hold each modality, in the words of ``attach``."""

    modalities: dict[str, Any]
    fill: dict[str, int]
    """By the name of each modality that holds whole numbers."""


def model_arguments(model: nn.Module, known: Inputs, alive: ModalitySet) -> ModelArguments | None:
    """The arguments that hold these modalities; None if ``modalities=`` cannot name them.

    ``attach`` reads them as it would in training, and has to find the same tensors. Masks,
    positions and the like that the user counts to a modality stay as they are.
    """
    given = dict(call_tensors(known.call))
    names = [known.names[m] for m in sorted(alive)]
    groups = [_substituted(known.groups[m], given) for m in sorted(alive)]
    parameters = InputNames(model, known.call).arguments
    words = [[word_for(known.call, at, parameters) for at in group] for group in groups]
    modalities = {n: w if len(w) > 1 else w[0] for n, w in zip(names, words, strict=True)}
    fill = {
        name: FILL
        for name, group in zip(names, groups, strict=True)
        if not all(given[at].is_floating_point() for at in group)
    }
    config = Config(head="", fill=fill or None)
    try:
        found = locate(model, config, modalities=modalities).partition.read(*known.call)
    except CMIEIError:
        return None
    same = [[one.path for one in group] for group in found.groups] == [list(g) for g in groups]
    return ModelArguments(modalities, fill) if same else None


def _substituted(group: tuple[Path, ...], given: Mapping[Path, Tensor]) -> tuple[Path, ...]:
    """Of the tensors of a modality those that are no masks, positions and the like."""
    features = [at for at in group if not why_no_modality(given[at], str(at[-1]), len(given[at]))]
    return tuple(features) or group
