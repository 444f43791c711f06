"""Where each modality is in the input of the head, as users write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import SplitsError

__all__ = [
    "Location",
    "Split",
    "default_names",
    "parse_modalities",
]

Location = int | str | tuple[int, int]
"""Where a tensor or a block is: an argument position or list index, a keyword or dict key, a path
into an argument (``text.0``), or the block ``(start, stop)`` of the first tensor."""

Split = int | None | tuple[Location, ...]
"""One modality: its width in one concatenated tensor (None: the rest, which may vary from call to
call), or the locations of its tensors or blocks."""


def default_names(count: int) -> tuple[str, ...]:
    """``r, n, t`` for three modalities (RGB, near-infrared, thermal), else ``m0, m1, ...``."""
    return ("r", "n", "t") if count == 3 else tuple(f"m{i}" for i in range(count))


def parse_modalities(modalities: object) -> tuple[tuple[str, ...], tuple[Split, ...]]:
    """The names and locations in ``modalities={name: location or locations, ...}``.

    Raises:
        SplitsError: it is not such a mapping of two or more modalities.
    """
    if not isinstance(modalities, Mapping) or len(modalities) < 2:
        raise _refused("modalities= does not name two or more modalities", modalities)
    for name in modalities:
        if not isinstance(name, str) or not name:
            hint = "YAML reads yes, no, on and off as truth values: put the name in quotes"
            raise _refused(f"a modality cannot be named {name!r}", modalities, hint)
    splits = {name: _locations(name, value, modalities) for name, value in modalities.items()}
    names = tuple(splits)
    for m, name in enumerate(names):
        for other in names[:m]:
            if splits[name] == splits[other]:
                raise _refused(f"{other!r} and {name!r} have the same location", modalities)
            _refuse_overlap(name, other, splits, modalities)
    return names, tuple(splits.values())


def _refuse_overlap(
    one: str, other: str, splits: Mapping[str, tuple[Location, ...]], modalities: object
) -> None:
    """Blocks may be shared; but (0, 3) and (1, 4) were meant as positions, or are a mistake."""
    for a in (location for location in splits[one] if isinstance(location, tuple)):
        for b in (location for location in splits[other] if isinstance(location, tuple)):
            if a != b and max(a[0], b[0]) < min(a[1], b[1]):
                raise _refused(
                    f"the blocks {b} of {other!r} and {a} of {one!r} overlap",
                    modalities,
                    "modalities share a whole block or none of it; a block is (start, stop); "
                    "argument positions go in a list: [0, 3]",
                )


def _locations(name: str, value: object, modalities: object) -> tuple[Location, ...]:
    # OmegaConf's list is a Sequence of its own.
    several = isinstance(value, Sequence) and not isinstance(value, (str, tuple))
    items: list[object] = list(value) if several else [value]  # type: ignore[call-overload]  # narrowed by `several`
    read = tuple(map(_location, items))
    found = tuple(location for location in read if location is not None)
    if len(found) < len(read) or not found:
        hint = "in YAML a block is a list in a list: [[0, 512]]" if isinstance(value, str) else ""
        if numbers := [item for item in items if isinstance(item, float)]:
            hint = f"a path that is written in numbers needs quotes, in YAML, too: '{numbers[0]}'"
        raise _refused(f"{value!r} is not a location of the modality {name!r}", modalities, hint)
    if len(set(found)) < len(found):
        raise _refused(f"a location of the modality {name!r} is given twice", modalities)
    return found


def _location(value: object) -> Location | None:
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
        expected="{name: location, ...}; a location is an argument position or list index (0), a "
        "keyword or dict key ('rgb'), a path into an argument ('text.0'), a block (start, stop) of "
        "one tensor, or a list of these",
        remedy=hint or "for example modalities={'r': [0, 3], 'n': [1, 4], 't': [2, 5]}",
    )
