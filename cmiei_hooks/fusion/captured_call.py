"""One call of the head with its modalities: read them, copy them, replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .pytree import Call, Path, with_values

__all__ = ["Captured", "Change", "Slice"]

Change = Callable[[Tensor], Tensor]
"""What replaces one tensor or block ``[B, ...]`` of a modality."""


@dataclass(frozen=True)
class Slice:
    """A tensor of a call, or the columns ``start:stop`` of it."""

    path: Path
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True)
class Captured:
    """The modalities in one call of the head: for each some tensors or blocks ``[B, ...]``.

    Every tensor has the batch on its first axis.
    """

    call: Call
    tensors: dict[Path, Tensor]
    """The tensors of the call that hold the modalities."""
    groups: tuple[tuple[Slice, ...], ...]
    """The slices of each modality."""
    dim: int
    fills: tuple[int | None, ...] = ()
    """For each modality, what takes the place of whole numbers (token ids) in it."""

    @property
    def batch(self) -> int:
        """The number of samples."""
        return next(iter(self.tensors.values())).shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the first of the tensors."""
        return next(iter(self.tensors.values())).device

    @property
    def widths(self) -> list[int]:
        """The width of each modality, where each is one block."""
        return [(one.stop or 0) - (one.start or 0) for (one,) in self.groups]

    @property
    def blocks(self) -> Tensor | None:
        """All modalities at once, ``[B, M, w]``.

        None unless they are equally wide neighbours that fill one floating-point tensor ``[B, D]``.
        """
        first, *others = self.tensors.values()
        slices = [one for group in self.groups for one in group]
        count = len(self.groups)
        if others or first.dim() != 2 or self.dim not in (-1, 1) or len(slices) != count:
            return None
        width = first.shape[1] // count
        neighbours = [(m * width, (m + 1) * width) for m in range(count)]
        fits = width * count == first.shape[1] and first.is_floating_point()
        if not fits or [(one.start, one.stop) for one in slices] != neighbours:
            return None
        return first.view(len(first), count, width)

    def assembled_blocks(self, blocks: Tensor) -> dict[Path, Tensor]:
        """The new tensor for new ``blocks``; with gradient."""
        ((path, tensor),) = self.tensors.items()
        return {path: _laid_out_like(tensor, blocks.flatten(1))}

    def copies(self) -> dict[Path, Tensor]:
        """Clones of the tensors, with gradient, to be written into through ``views``."""
        return {path: tensor.clone() for path, tensor in self.tensors.items()}

    def views(self, tensors: Mapping[Path, Tensor], modality: int) -> Iterator[Tensor]:
        """The slices of one modality in these tensors, as views."""
        for one in self.groups[modality]:
            tensor = tensors[one.path]
            if one.start is None or one.stop is None:
                yield tensor
            else:
                yield tensor.narrow(self.dim, one.start, one.stop - one.start)

    def changed(self, changes: Mapping[int, Change]) -> dict[Path, Tensor]:
        """Copies of the tensors in which some modalities are replaced, by their index."""
        tensors = self.copies()
        for modality, change in changes.items():
            for view in self.views(tensors, modality):
                view.copy_(change(view))
        return tensors

    def assembled(self, replaced: Mapping[Slice, Tensor]) -> dict[Path, Tensor]:
        """New tensors, in which every slice of a modality is replaced; with gradient."""
        parts: dict[Path, list[Slice]] = {path: [] for path in self.tensors}
        for one in replaced:
            parts[one.path].append(one)
        return {
            path: _laid_out_like(tensor, self._joined(path, parts[path], replaced))
            for path, tensor in self.tensors.items()
        }

    def _joined(
        self, path: Path, slices: Sequence[Slice], replaced: Mapping[Slice, Tensor]
    ) -> Tensor:
        """One tensor: its replaced blocks, and the columns of no modality between them."""
        tensor, end, columns = self.tensors[path], 0, list[Tensor]()
        for one in sorted(slices, key=lambda one: one.start or 0):
            if one.start is None or one.stop is None:
                return replaced[one]
            columns += [tensor.narrow(self.dim, end, one.start - end)] * (one.start > end)
            columns.append(replaced[one])
            end = one.stop
        width = tensor.shape[self.dim]
        columns += [tensor.narrow(self.dim, end, width - end)] * (width > end)
        return torch.cat(columns, self.dim)

    def dropping(self, modality: int, baseline: Change) -> Change:
        """The baseline of one modality: for whole numbers its fill value, whatever the baseline."""

        def change(view: Tensor) -> Tensor:
            return baseline(view) if view.is_floating_point() else self.filled(view, modality)

        return change

    def filled(self, view: Tensor, modality: int) -> Tensor:
        """Whole numbers of one modality, all of them its fill value."""
        value = self.fills[modality]
        assert value is not None  # without one, whole numbers are refused
        return torch.full_like(view, value)

    def call_with(self, tensors: Mapping[Path, Tensor | None]) -> Call:
        """The call with other tensors; the caller's containers are not written into."""
        return with_values(self.call, tensors)


def _laid_out_like(tensor: Tensor, new: Tensor) -> Tensor:
    """The new tensor with the strides that a clone of the other has."""
    same = new.stride() == tensor.stride()
    return new if same else torch.empty_like(tensor, requires_grad=False).copy_(new)
