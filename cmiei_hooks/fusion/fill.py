"""Modalities that are whole numbers, such as token ids: a value of the user's takes their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..errors import InputError, SplitsError, did_you_mean
from .arguments import describe

__all__ = ["refuse_needless_fill", "refuse_unknown_fill", "refuse_without_fill"]


def refuse_unknown_fill(fill: Mapping[str, int], names: Sequence[str]) -> None:
    """Refuse a fill value for something else than the modalities.

    Raises:
        SplitsError: a name is that of no modality.
    """
    unknown = [name for name in fill if name not in names]
    if unknown:
        raise SplitsError(
            f"fill= names no modality {unknown[0]!r}",
            got=repr(dict(fill)),
            expected=f"some of {list(names)}",
            remedy=did_you_mean(unknown[0], names) or "correct its name",
        )


def refuse_without_fill(value: Tensor, name: str, fill: Mapping[str, int]) -> None:
    """Refuse whole numbers of which nobody has said what takes their place.

    Raises:
        InputError: the modality has no fill value.
    """
    if name not in fill:
        raise InputError(
            f"the modality {name!r} holds whole numbers, which have no mean",
            got=describe(value),
            expected="a floating-point tensor [B, ...], or a value that takes their place",
            remedy=f"for token ids name their pad id, fill={{{name!r}: 0}}: it takes the place "
            "of the modality where this is dropped or substituted; or name a head that "
            "receives the output of the embedding",
        )


def refuse_needless_fill(name: str, tensors: Sequence[Tensor], fill: Mapping[str, int]) -> None:
    """Refuse a fill value for features.

    Raises:
        InputError: none of the tensors of the modality is whole numbers.
    """
    if name in fill and all(tensor.is_floating_point() for tensor in tensors):
        raise InputError(
            f"the modality {name!r} has a fill value and holds no whole numbers",
            got=f"fill {dict(fill)}; " + ", ".join(map(describe, tensors)),
            expected="token ids, or other whole numbers",
            remedy=f"leave {name!r} out of fill=: features become the baseline (DROP)",
        )
