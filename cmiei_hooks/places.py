"""Where modalities are, as users write it: widths, positions, names, blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import SplitsError

__all__ = ["Place", "Split", "parse_modalities"]

Place = int | str | tuple[int, int]
"""One piece of a modality: an argument position or list index, a keyword or dict key, or the block
``(start, stop)`` of the first tensor."""

Split = int | tuple[Place, ...]
"""What one modality is: a width in one concatenated tensor, or the pieces that it owns."""


def parse_modalities(modalities: object) -> tuple[tuple[str, ...], tuple[Split, ...]]:
    """The names and pieces in ``modalities={name: place or places, ...}``.

    Raises:
        SplitsError: it is not such a mapping of two or more modalities.
    """
    if not isinstance(modalities, Mapping) or len(modalities) < 2:
        raise _refused("modalities= does not name two or more modalities", modalities)
    for name in modalities:
        if not isinstance(name, str) or not name:
            hint = "YAML reads yes, no, on and off as truth values: put the name in quotes"
            raise _refused(f"{name!r} is no name of a modality", modalities, hint)
    splits = {name: _places(name, value, modalities) for name, value in modalities.items()}
    names = tuple(splits)
    for m, name in enumerate(names):
        for other in names[:m]:
            if splits[name] == splits[other]:
                raise _refused(f"{other!r} and {name!r} are at the same places", modalities)
            _refuse_overlap(name, other, splits, modalities)
    return names, tuple(splits.values())


def _refuse_overlap(
    one: str, other: str, splits: Mapping[str, tuple[Place, ...]], modalities: object
) -> None:
    """Blocks may be shared; but (0, 3) and (1, 4) were meant as positions, or are a mistake."""
    for a in (place for place in splits[one] if isinstance(place, tuple)):
        for b in (place for place in splits[other] if isinstance(place, tuple)):
            if a != b and max(a[0], b[0]) < min(a[1], b[1]):
                raise _refused(
                    f"the blocks {b} of {other!r} and {a} of {one!r} overlap in part",
                    modalities,
                    "blocks are (start, stop) and are shared as a whole or not at all; argument "
                    "positions go in a list: [0, 3]",
                )


def _places(name: str, value: object, modalities: object) -> tuple[Place, ...]:
    # OmegaConf's list is a Sequence of its own.
    several = isinstance(value, Sequence) and not isinstance(value, (str, tuple))
    items: list[object] = list(value) if several else [value]  # type: ignore[call-overload]  # narrowed by `several`
    places = tuple(map(_place, items))
    found = tuple(place for place in places if place is not None)
    if len(found) < len(places) or not found:
        hint = "in YAML a block is a list in a list: [[0, 512]]" if isinstance(value, str) else ""
        raise _refused(f"{value!r} is no place of the modality {name!r}", modalities, hint)
    if len(set(found)) < len(found):
        raise _refused(f"a place of the modality {name!r} is named twice", modalities)
    return found


def _place(value: object) -> Place | None:
    if isinstance(value, str) and value and not value.startswith("("):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        start, stop = value
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        if whole and 0 <= start < stop:
            return start, stop
    return None


def _refused(problem: str, modalities: object, hint: str = "") -> SplitsError:
    return SplitsError(
        problem,
        got=f"modalities={modalities!r}",
        expected="{name: place, ...}; a place is an argument position or list index (0), a keyword "
        "or dict key ('rgb'), a block (start, stop) of one tensor, or a list of these",
        remedy=hint or "for example modalities={'r': [0, 3], 'n': [1, 4], 't': [2, 5]}",
    )
