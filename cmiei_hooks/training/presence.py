"""Is a modality missing in one batch, or is its location wrong?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..fusion import Captured, LastCall, MissingModalityError, Partition, describe

__all__ = ["Presence"]


class Presence:
    """Reads the calls of a head, and knows which modalities were there so far.

    A location that no call has had is a mistake of the user's. One that a call has had, or one that
    holds None, belongs to a modality that this batch lacks.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._never: frozenset[object] | None = None
        """Locations that no call has had; None before the first call."""
        self._depths: list[int] | None = None
        """How deep in the arguments the tensors are."""
        self._last = LastCall()

    def all_were_there(self) -> None:
        """Every modality was found in a call before, as in a run that goes on."""
        self._never = frozenset()

    def read(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Captured | MissingModalityError:
        """The modalities of a call, or what is missing.

        Raises:
            InputError: the call does not hold the modalities, and no call did.
        """
        if (same := self._last.read(args, kwargs)) is not None:
            return same
        try:
            captured = self._partition.read(args, kwargs)
        except MissingModalityError as error:
            self._never = error.absent if self._never is None else self._never & error.absent
            if self._never:
                raise
            return error
        depths = [len(one.path) for group in captured.groups for one in group]
        if self._depths is None:
            self._depths = depths
        nothing = any(value is None for value in (*args, *kwargs.values()))
        if nothing and depths != self._depths:
            # With None in the place of tensors, a number no longer means an argument.
            return MissingModalityError(
                "the head was called without a modality", got=describe(args)
            )
        self._never = frozenset()
        self._last.keep(captured)
        return captured
