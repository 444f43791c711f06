"""The error of a head that cannot run on what this package puts in the place of a modality."""

from __future__ import annotations

from collections.abc import Collection

from .._torch import out_of_memory
from ..errors import CMIEIError, FailedWithoutError
from ..fusion import Captured, Head, describe

__all__ = ["failed_without", "may_be_of_the_input"]

_NOT_ZERO = "; or attach with drop='mean' if it cannot take zeros (an audit needs them in any case)"


def may_be_of_the_input(error: Exception) -> bool:
    """Whether an error of the user's code may come from the input that it was given."""
    return not (isinstance(error, CMIEIError) or out_of_memory(error))


def failed_without(
    head: Head, captured: Captured, modalities: Collection[int], error: Exception
) -> FailedWithoutError:
    """The error for a run of the head that failed with some modalities replaced.

    Args:
        head: that was run again.
        captured: the call in which it was.
        modalities: the indices of those that were replaced.
        error: what the head raised.
    """
    names = [head.partition.names[m] for m in modalities]
    which = f"{'modality' if len(names) == 1 else 'modalities'} {' and '.join(map(repr, names))}"
    paths = dict.fromkeys(one.path for m in modalities for one in captured.groups[m])
    tensors = [captured.tensors[path] for path in paths]
    if all(tensor.is_floating_point() for tensor in tensors):
        remedy = (
            "name a head behind the layers that read such values; if these are token ids in a "
            f"tensor of floats, pass whole numbers (ids.long()) and fill={{{names[0]!r}: <the pad "
            "id>}"
        )
        if head.drop == "zero":
            remedy += _NOT_ZERO
    else:
        remedy = "name in fill= a value that the model takes, such as the id of its padding"
    return FailedWithoutError(
        f"the head {head.name!r} fails without the {which}",
        got=f"{f'{type(error).__name__}: {error}'.splitlines()[0]}, when C-MIEI ran it again with "
        f"other values in {', '.join(map(describe, tensors))}",
        expected="a head that can run on any numbers in the place of a modality: estimates "
        "(attach), verify and audit run it without each of them",
        remedy=remedy,
    )
