"""The substituted input of one call: its noise, its prototypes, and where it is written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import distributed
from .._torch import keeps_its_output
from ..errors import InputError
from ..functional import rows_of
from ..fusion import Captured, Path, Slice
from ..mean_plus_noise import batch_mean, batch_std, blend
from ..settings import Config

__all__ = ["Noise", "noise_generator", "refuse_in_place", "substituted", "write_in_place"]


def noise_generator(device: torch.device, *words: object) -> torch.Generator:
    """A generator whose seed is a hash of the words, and depends on nothing else."""
    text = " ".join(map(str, words)).encode()
    # The CPU's generator uses only four bytes of its seed.
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
    return torch.Generator(device).manual_seed(seed)


@dataclass
class Noise:
    """The noise of one attachment; the same step always gets the same noise.

    It depends on the seed, the rank, the head and the step alone. So a resumed run and a recompute
    draw the same noise, and ranks and heads draw different noise.
    """

    seed: int
    head: str

    def generator(self, device: torch.device, step: int, *use: object) -> torch.Generator:
        """The generator of one step.

        Args:
            device: where it draws.
            step: the number of the step.
            use: names what else than the noise is drawn, and then from other numbers.
        """
        return noise_generator(device, self.seed, distributed.rank(), self.head, step, *use)


def substituted(
    captured: Captured, chosen: Tensor, config: Config, generator: torch.Generator
) -> dict[Path, Tensor]:
    """The tensors of a call in which the chosen modalities of each sample are mean plus noise.

    Where at most one modality of a sample is replaced, all modalities use the same random numbers:
    drawing them takes longer than everything else. Where several may be, each has its own. Whole
    numbers become the fill value of their modality.

    Args:
        captured: the call.
        chosen: int64 ``[B]``, the index of a modality, -1 for none; bool ``[B, M]`` for several.
        config: ``SIGMA``, ``SIGMA_UNIT`` and ``SYNC``.
        generator: source of the noise.
    """
    noise = _Numbers(captured, generator, shared=chosen.dtype != torch.bool)
    if (blocks := captured.blocks) is not None:
        rows = torch.stack([rows_of(chosen, m) for m in range(blocks.shape[1])], 1)
        return captured.assembled_blocks(_blended(blocks, blocks, rows, noise.of(blocks), config))
    replaced: dict[Slice, Tensor] = {}
    for m, group in enumerate(captured.groups):
        rows = rows_of(chosen, m)
        noise.begin()
        for one, original in zip(group, captured.views(captured.tensors, m), strict=True):
            before = replaced.get(one, original)  # two modalities may share a block
            if not original.is_floating_point():
                column = rows.view(-1, *[1] * (original.dim() - 1))
                replaced[one] = captured.filled(before, m).where(column, before)
                continue
            replaced[one] = _blended(before, original, rows, noise.like(original), config)
    return captured.assembled(replaced)


def _blended(
    before: Tensor, original: Tensor, rows: Tensor, noise: Tensor, config: Config
) -> Tensor:
    """Features with these rows replaced: ``[B, ...]`` by rows ``[B]``, blocks by ``[B, M]``."""
    blocks, sync = rows.dim() == 2, config.sync
    over_ranks = distributed.sum_over_ranks_with_grad if sync else None
    prototype = batch_mean(original, over_ranks, blocks=blocks)
    if config.sigma_unit == "std":
        total = distributed.sum_over_ranks if sync else None
        noise = noise * batch_std(original, prototype, total, blocks=blocks)
    return blend(before, rows, prototype, noise, config.sigma)


class _Numbers:
    """The random numbers of a call.

    If all modalities share them, as many for each sample as the largest modality has values;
    otherwise as many as all of them have.
    """

    def __init__(self, captured: Captured, generator: torch.Generator, *, shared: bool) -> None:
        self._shared = shared
        most: dict[torch.dtype, int] = {}
        for m in range(len(captured.groups)):
            sizes: dict[torch.dtype, int] = {}
            for view in captured.views(captured.tensors, m):
                if view.is_floating_point():
                    sizes[view.dtype] = sizes.get(view.dtype, 0) + _width(view)
            for dtype, size in sizes.items():
                before = most.get(dtype, 0)
                most[dtype] = max(size, before) if shared else before + size
        shape, device = captured.batch, captured.device
        self._numbers = {
            dtype: torch.empty(shape, size, dtype=dtype, device=device).normal_(generator=generator)
            for dtype, size in most.items()
        }
        self._used: dict[torch.dtype, int] = {}

    def of(self, blocks: Tensor) -> Tensor:
        """The numbers of blocks ``[B, M, w]``; ``[B, 1, w]`` if they are shared."""
        numbers, (samples, _, width) = self._numbers[blocks.dtype], blocks.shape
        return numbers.view(samples, numbers.shape[1] // width, width)

    def begin(self) -> None:
        """Go back to the first numbers for the next modality, if they are shared."""
        if self._shared:
            self._used = {}

    def like(self, features: Tensor) -> Tensor:
        """The next numbers, in the shape of the features ``[B, ...]``."""
        start = self._used.get(features.dtype, 0)
        self._used[features.dtype] = stop = start + _width(features)
        return self._numbers[features.dtype][:, start:stop].reshape(features.shape)


def _width(features: Tensor) -> int:
    """The number of values of one sample."""
    return math.prod(features.shape[1:])


def write_in_place(captured: Captured, tensors: Mapping[Path, Tensor]) -> None:
    """Write the substitution into the captured tensors, where all their consumers see it (INPLACE).

    Raises:
        InputError: autograd forbids it.
    """
    for path, tensor in tensors.items():
        try:
            captured.tensors[path].copy_(tensor)
        except RuntimeError as error:
            raise _forbidden(str(error).splitlines()[0]) from error


def refuse_in_place(captured: Captured) -> None:
    """Refuse tensors that cannot be written into without an error or wrong gradients (INPLACE).

    Raises:
        InputError: a tensor is a leaf, its producer needs it in backward, or it is the input of a
            reentrant checkpoint.
    """
    storages = {tensor.untyped_storage().data_ptr() for tensor in captured.tensors.values()}
    if len(storages) < len(captured.tensors):
        raise _forbidden("a tensor that is also another argument of the head")
    for features in captured.tensors.values():
        if features.requires_grad and features.is_leaf:
            raise _forbidden("a leaf that requires gradient")
        if features.requires_grad and not torch.is_grad_enabled():
            raise _forbidden("the input of a reentrant checkpoint, or of a call under no_grad")
        if kind := keeps_its_output(features):
            raise _forbidden(f"the output of {kind}, which keeps it for its backward")


def _forbidden(got: str) -> InputError:
    return InputError(
        "INPLACE: autograd forbids writing into the captured tensor",
        got=got,
        expected="a tensor whose old values nobody needs",
        remedy="leave INPLACE False: the head then gets a new tensor",
    )
