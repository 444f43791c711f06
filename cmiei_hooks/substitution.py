"""The substituted input of one call: noise, prototypes, and where it is written."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from . import distributed
from .config import Config
from .errors import InputError
from .functional import batch_mean, blend
from .partition import Partition

__all__ = ["noise_generator", "refuse_in_place", "substituted", "write_in_place"]


def noise_generator(device: torch.device, *words: Any) -> torch.Generator:
    """A generator that depends on nothing but the words: seed, rank, head, step.

    So a resumed run and a recompute draw the same noise, and ranks and heads different ones.
    """
    text = " ".join(map(str, words)).encode()
    # Four bytes: of its seed the CPU's generator uses no more.
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
    return torch.Generator(device).manual_seed(seed)


def substituted(
    partition: Partition,
    features: Tensor,
    chosen: Tensor,
    config: Config,
    generator: torch.Generator,
) -> Tensor:
    """The features with the chosen modality of each sample replaced (int64 ``[B]``, -1: none)."""
    over_ranks = distributed.sum_over_ranks_with_grad if config.sync else None
    blocks = [
        blend(block, chosen == m, batch_mean(block, over_ranks), config.sigma, generator)
        for m, block in enumerate(partition.blocks(features))
    ]
    joined = partition.join(blocks)
    if joined.stride() == features.stride():
        return joined
    return torch.empty_like(features).copy_(joined)  # another layout would take another kernel


def write_in_place(features: Tensor, joined: Tensor) -> None:
    """``INPLACE``: every holder of the captured tensor sees the substitution.

    Raises:
        InputError: autograd forbids it.
    """
    try:
        features.copy_(joined)
    except RuntimeError as error:
        raise _forbidden(str(error).splitlines()[0]) from error


def refuse_in_place(features: Tensor) -> None:
    """Refuse, before it is needed, what can be known to fail or to give wrong gradients.

    Raises:
        InputError: the tensor is a leaf, or its producer needs it in backward, or it is the input
            of a reentrant checkpoint.
    """
    if features.requires_grad and features.is_leaf:
        raise _forbidden("a leaf that requires gradient")
    if features.requires_grad and not torch.is_grad_enabled():
        raise _forbidden("the input of a reentrant checkpoint, or of a call under no_grad")
    for tensor in (features, features._base):
        producer = None if tensor is None else tensor.grad_fn
        # Only whether it is there: reading the saved tensor would make checkpointing recompute it.
        if hasattr(producer, "_raw_saved_result"):
            kind = type(producer).__name__
            raise _forbidden(f"the output of {kind}, which keeps it for its backward")


def _forbidden(got: str) -> InputError:
    return InputError(
        "INPLACE: autograd forbids writing into the captured tensor",
        got=got,
        expected="a tensor that nobody needs as it is",
        remedy="leave INPLACE False: the head then gets a new tensor",
    )
