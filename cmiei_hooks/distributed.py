"""The few things that concern other ranks; nothing here runs unless it is asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

__all__ = [
    "active",
    "gather_objects",
    "joined",
    "rank",
    "sum_over_ranks",
    "sum_over_ranks_with_grad",
    "wait_for_all",
    "world_size",
]


T = TypeVar("T")


def active() -> bool:
    """Whether there is a process group of more than one rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """The rank of this process; without a process group the launcher's ``RANK``, else 0."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    word = os.environ.get("RANK", "")
    return int(word) if word.isdecimal() else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of this tensor over all ranks; every rank must call it. Without ranks, the tensor."""
    if not active():
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def gather_objects(mine: T) -> list[T]:
    """What every rank has, in the order of the ranks; every rank must call it."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def sum_over_ranks_with_grad(tensor: Tensor) -> Tensor:
    """Like ``sum_over_ranks``; gradient flows back to the tensors of all ranks."""
    if not active():
        return tensor
    from torch.distributed.nn.functional import all_reduce  # noqa: PLC0415  # not in every build

    total: Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]  # torch has no types here
    return total


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started several."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if several:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        if several:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def wait_for_all() -> None:
    """``torchrun`` ends every process as soon as one has ended: first the report is written."""
    if world_size() > 1:
        dist.barrier()


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
