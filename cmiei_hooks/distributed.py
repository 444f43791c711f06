"""Ranks of ``torch.distributed``: who am I, what do the others have.

Every function works without a process group too. Those that communicate say so; nothing else does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
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
    """Whether there is more than one rank."""
    return world_size() > 1


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if _has_group() else 1


def rank() -> int:
    """The rank of this process.

    Before there is a process group, it comes from the variables that launchers set: ``RANK``, or
    ``LOCAL_RANK`` and the rank of the node (``GROUP_RANK`` or ``NODE_RANK``), or ``SLURM_PROCID``,
    or ``LOCAL_RANK`` alone. Without any of them it is 0.
    """
    if _has_group():
        return dist.get_rank()
    known, local, node = _variable("RANK"), _variable("LOCAL_RANK"), _variable("GROUP_RANK")
    if known is not None:
        return known
    if node is None:
        node = _variable("NODE_RANK")
    if local is not None and node is not None:
        # Without the number of ranks on a node the result is not exact, but 0 on one rank only.
        return node * (_variable("LOCAL_WORLD_SIZE") or 1) + local
    # In a batch script SLURM_PROCID is 0, and so it is in whatever the script launches.
    return _variable("SLURM_PROCID") or local or 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of this tensor over all ranks. Every rank must call it."""
    if not active():
        return tensor
    total = tensor.detach().to(_reducible_device(tensor), copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)


def _reducible_device(tensor: Tensor) -> torch.device:
    """Where the ranks can add up a tensor: NCCL knows no CPU, where sums of no estimates are."""
    if tensor.device.type == "cpu" and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device


def sum_over_ranks_with_grad(tensor: Tensor) -> Tensor:
    """Like ``sum_over_ranks``; gradient flows back to the tensors of all ranks."""
    if not active():
        return tensor
    from torch.distributed.nn.functional import all_reduce  # noqa: PLC0415  # not in every build

    total: Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]  # torch has no types here
    return total


def gather_objects(mine: T) -> list[T]:
    """The objects of all ranks, in the order of the ranks. Every rank must call it."""
    if not active():
        return [mine]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that ``torchrun`` started are one process group.

    A process group that exists already is used and left as it is.
    """
    if (_variable("WORLD_SIZE") or 1) == 1 or _has_group():
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # another rank is gone
            dist.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every rank is here. Every rank must call it.

    ``torchrun`` ends all processes as soon as one fails: what has to be written is written before.
    """
    if active():
        dist.barrier()


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _variable(name: str) -> int | None:
    """A number that a launcher has put into the environment."""
    word = os.environ.get(name, "")
    return int(word) if word.isdecimal() else None
