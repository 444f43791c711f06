"""Which inputs of the model change which columns of what a head receives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import CMIEIError
from ..fusion import Path, call_tensors, training_branch
from .attribution import ModalitySet, attribute
from .inputs import bare_model, call_of, read_inputs
from .layout import Layout, find_layout
from .trace import trace

__all__ = ["HeadInput", "attribute_head_input"]


@dataclass(frozen=True)
class HeadInput:
    """The columns of what one module receives, with the inputs of the model that change them."""

    names: tuple[str, ...]
    """The names of the inputs of the model that are modalities."""
    columns: Mapping[Path, Mapping[int, tuple[ModalitySet, ...]]]
    """For each tensor and axis (-1; 1 from three axes on), indices into the names."""
    layout: Layout | None
    """As ``discover`` would pass it to ``attach``; None if the modalities are mixed."""


def attribute_head_input(
    model: nn.Module, inputs: Sequence[Any], head: nn.Module
) -> HeadInput | str:
    """Permute one input of the model at a time, as ``discover`` does, and look at this module.

    The model runs once for each modality and twice more, in its training branch.

    Returns:
        Why it is unknown, as text, if it is: the model does not take one tensor for each modality,
        fails in its training branch, calls the module more than once, or is random.
    """
    bare = bare_model(model)
    path = next((path for path, module in bare.named_modules() if module is head), None)
    if path is None:
        return "the model does not hold the head any more"
    try:
        known = read_inputs(bare, call_of(bare, inputs))
        calls = [known.fresh(), known.fresh(), *map(known.permuted, range(len(known.names)))]
        runs = [trace(bare, call, training_branch, paths=[path]) for call in calls]
    except CMIEIError as error:
        return error.problem
    except Exception as error:  # a forward may raise anything in a branch it is not made for
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"the model fails in its training branch with normalisation in eval mode ({text})"
    found = attribute(runs[0], runs[1], runs[2:])
    if len(found) != 1:
        times = f"{len(found)} times" if found else "not"
        return f"the head is called {times} in one forward of the training branch"
    if any(tensor.noisy for tensor in found[0].inputs):
        return "two runs of the model with the same inputs differ"
    columns = {tensor.address: tensor.columns for tensor in found[0].inputs}
    given = dict(call_tensors(known.call))
    masks = _masks(columns, [given[group[0]] for group in known.groups])
    columns = {
        address: {axis: tuple(one - masks for one in sets) for axis, sets in axes.items()}
        for address, axes in columns.items()
    }
    alive = frozenset().union(*(one for axes in columns.values() for one in axes[-1]))
    layout = find_layout(found[0], known.names, alive, {}) if not masks else None
    return HeadInput(known.names, columns, layout if isinstance(layout, Layout) else None)


def _masks(
    columns: Mapping[Path, Mapping[int, tuple[ModalitySet, ...]]], given: Sequence[Tensor]
) -> ModalitySet:
    """Integer inputs that change nothing without another input: they belong to it.

    A mask of zeros and ones may belong to any input, other integers (positions) only to integers:
    where modalities are mixed, the ids of a text change nothing without the images either.
    """
    sets = {one for axes in columns.values() for sets in axes.values() for one in sets}
    floating = frozenset(m for m, x in enumerate(given) if x.is_floating_point())
    masks: ModalitySet = frozenset()
    for m in reversed(range(len(given))):  # a mask comes after what it masks
        if m in floating:
            continue
        others = frozenset() if _is_binary(given[m]) else floating
        together = [one - masks - others - {m} for one in sets if m in one]
        if together and frozenset.intersection(*together):
            masks |= {m}
    return masks


def _is_binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())
