"""Every private name of torch that this package uses, each with its fallback."""

from __future__ import annotations

import sys

import torch

__all__ = ["current_backward", "exporting", "in_backward", "transform"]


def current_backward() -> int:
    """The number of the backward pass that autograd is running here; -1 outside of one."""
    return int(torch._C._current_graph_task_id())


def in_backward() -> bool:
    """Whether autograd is running a backward pass here: a module called now is being recomputed."""
    return current_backward() != -1


def transform() -> str | None:
    """The function transform or tracer that is running this code, if there is one.

    Tensors then stand for others (per-sample tensors, dual numbers, symbols) and outlive the call
    in a state that nobody can read. Uses ``torch._C._functorch.maybe_current_level`` and the flag
    of ``torch.fx``; without them (another torch) these two kinds are not recognised, and what they
    do with a hook is torch's own error.
    """
    functorch = getattr(torch._C, "_functorch", None)
    level = getattr(functorch, "maybe_current_level", None)
    if level is not None and level() is not None:
        return "a transform of torch.func (grad, vjp, jacrev, vmap, ...)"
    tracer = sys.modules.get("torch.fx._symbolic_trace")
    if getattr(tracer, "_is_fx_tracing_flag", False):
        return "torch.fx tracing or torch.export"
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # no types in torch
    return "torch.jit.trace" if tracing else None


def exporting() -> bool:
    """Whether Dynamo is reading this code for ``torch.export``, which allows no graph break.

    False where torch cannot tell (before 2.7): there strict export refuses an attached model.
    """
    known = getattr(torch.compiler, "is_exporting", None)
    return known is not None and bool(torch.compiler.is_dynamo_compiling() and known())
