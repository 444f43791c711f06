"""The rows of ``samples.csv``: one for each sample, made when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from torch import Tensor

from ..functional import KEPT, dominant
from ..measures import floor_of
from .samples import UNKNOWN, Samples
from .shapley import shapley

__all__ = ["Rows"]

_AT_ONCE = 4096
"""The rows that exist at once: of a million samples they would take a gigabyte."""


class Rows(Sequence[Mapping[str, Any]]):
    """A mapping from column to value for each sample.

    Args:
        names: the names of the modalities.
        measure: ``MEASURE``.
        samples: what was recorded.
        triggered: bool ``[N]``.
    """

    def __init__(
        self, names: Sequence[str], measure: str, samples: Samples, triggered: Tensor
    ) -> None:
        self._names, self._group = names, samples.group
        self._influence, self._batch, self._label = samples.influence, samples.batch, samples.label
        self._dominant, self._triggered = dominant(samples.influence, floor_of(measure)), triggered
        self._fingerprint = samples.fingerprint
        self._predicted = _predictions(names, samples)
        worth = samples.divergence
        self._shapley = None if worth is None else shapley(-worth)

    def __len__(self) -> int:
        return len(self._influence)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]

    @overload
    def __getitem__(self, which: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, which: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, which: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            return self._made(start, stop)[::step] if step > 0 else tuple(self)[which]
        number = range(len(self))[which]
        return self._made(number, number + 1)[0]

    def _made(self, start: int, stop: int) -> tuple[Mapping[str, Any], ...]:
        columns = self._columns(slice(start, stop))
        names = tuple(columns)
        return tuple(
            dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)
        )

    def in_columns(self) -> Iterator[Mapping[str, Sequence[Any]]]:
        """The columns of some rows, then those of the next ones."""
        for start in range(0, len(self), _AT_ONCE):
            yield self._columns(slice(start, start + _AT_ONCE))

    def _columns(self, few: slice) -> dict[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {
            "sample": range(len(self))[few],
            "batch": self._batch[few].tolist(),
        }
        if self._label is not None:
            columns["label"] = self._label[few].tolist()
        if self._group is not None:
            columns["group"] = self._group[few]
        if self._fingerprint is not None:
            columns["fingerprint"] = self._fingerprint[few].tolist()
        for name, classes in self._predicted.items():
            known: list[Any] = classes[few].tolist()
            if (classes[few] == UNKNOWN).any():
                known = ["" if c == UNKNOWN else c for c in known]
            columns[name] = known
        first = self._dominant[few].tolist()
        columns["dominant"] = ["" if m == KEPT else self._names[m] for m in first]
        columns["triggered"] = self._triggered[few].int().tolist()
        for kind, found in (("CI", self._influence), ("shapley", self._shapley)):
            if found is not None:
                for name, values in zip(self._names, found[few].T.tolist(), strict=True):
                    columns[f"{kind}_{name}"] = [f"{v:.9g}" for v in values]
        return columns


def _predictions(names: Sequence[str], samples: Samples) -> dict[str, Tensor]:
    """The predicted classes: complete, without each modality, and with each alone."""
    known, modalities = samples.predicted, list(enumerate(names))
    if known is None:
        return {}
    if samples.divergence is None:  # no coalitions: complete, then without each modality
        kinds = {"predicted": 0} | {f"without_{name}": 1 + m for m, name in modalities}
    else:
        everyone = known.shape[1] - 1
        kinds = {"predicted": everyone}
        kinds |= {f"without_{name}": everyone ^ 1 << m for m, name in modalities}
        kinds |= {f"alone_{name}": 1 << m for m, name in modalities}
    return {kind: known[:, column].clone() for kind, column in kinds.items()}
