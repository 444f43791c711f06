"""Every private name of torch that this package uses, each with its fallback."""

from __future__ import annotations

import torch

__all__ = ["current_backward", "in_backward"]


def current_backward() -> int:
    """The number of the backward pass that autograd is running here; -1 outside of one."""
    return int(torch._C._current_graph_task_id())


def in_backward() -> bool:
    """Whether autograd is running a backward pass here: a module called now is being recomputed."""
    return current_backward() != -1
