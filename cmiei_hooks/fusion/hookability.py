"""Can the head be hooked, and does its hook run: no head is ignored in silence."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from .._torch import anything_compiled, was_compiled
from ..errors import CMIEIError, CMIEIWarning, HeadError

__all__ = [
    "drop_compiled_code",
    "refuse_lazy",
    "refuse_non_module",
    "refuse_replica",
    "refuse_unhookable",
    "why_never_called",
]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def refuse_non_module(model: object) -> None:
    """Refuse a model that is not a module.

    Raises:
        HeadError: it is something else.
    """
    if not isinstance(model, nn.Module):
        raise HeadError(
            "this is not a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="pass the model itself",
        )


def refuse_lazy(
    module: nn.Module,
    name: str = "the model",
    *,
    inside: bool = False,
    error: type[CMIEIError] = HeadError,
    remedy: str = "run one batch through the model first",
) -> None:
    """Refuse a module whose parameters do not exist yet.

    Args:
        module: with everything in it.
        name: what the error calls it.
        inside: leave out the parameters of the module itself.
        error: what is raised.
        remedy: what to do.

    Raises:
        CMIEIError: ``error``; a lazy module in it was never called.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    lazy = [path for path, tensor in tensors if isinstance(tensor, _LAZY)]
    if inside:
        lazy = [path for path in lazy if "." in path]
    if lazy:
        raise error(
            f"{name} has parameters that do not exist yet",
            got=f"lazy: {', '.join(lazy)}",
            expected="parameters that exist",
            remedy=remedy,
        )


_LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)


def refuse_unhookable(model: nn.Module, name: str, head: nn.Module) -> None:
    """Refuse a head whose hook would never run, or would run on copies.

    Raises:
        HeadError: naming the cause and the remedy.
    """
    if isinstance(head, _CONTAINERS):
        raise HeadError(
            f"{name!r} is a container that is never called, so a hook on it would never run",
            got=type(head).__name__,
            expected="a module whose forward the model calls",
            remedy=f"name a module in it, such as {name + '.0'!r}",
        )
    if any(isinstance(m, torch.jit.ScriptModule) for m in (model, *head.modules())):
        raise HeadError(
            "a scripted or traced module runs no Python hooks and keeps its state out of reach",
            got=f"{name!r} is or holds one",
            expected="the nn.Module that was scripted",
            remedy="attach to the model before torch.jit.script or torch.jit.trace, in training",
        )
    refuse_lazy(head, repr(name), inside=True)  # a lazy head itself can be hooked
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.out_proj is head:
            raise HeadError(
                f"{name!r} is never called: MultiheadAttention uses its weight and bias directly",
                got="out_proj of a MultiheadAttention",
                expected="a module whose forward the model calls",
                remedy=f"name the attention itself ({path!r}) or the module that follows it",
            )
        if isinstance(module, nn.DataParallel):
            raise _replicated("a model that holds nn.DataParallel")


def refuse_replica(module: nn.Module, head: nn.Module) -> None:
    """Refuse a call by a shallow copy of the head, as ``nn.DataParallel`` makes them.

    Raises:
        HeadError: the calling module is not the head.
    """
    if module is not head:
        raise _replicated("a call by a copy of the head")


def _replicated(got: str) -> HeadError:
    return HeadError(
        "nn.DataParallel copies the model for every device and step; the copies share one hook",
        got=got,
        expected="one model a process",
        remedy="use DistributedDataParallel (torchrun), or one device without DataParallel",
    )


def drop_compiled_code(model: nn.Module) -> None:
    """Make ``torch.compile`` compile again: code that it compiled before ignores later hooks."""
    if not anything_compiled():
        return
    # The compiled code of another function may call the model, so all of it is dropped.
    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    own = {getattr(type(module).forward, "__code__", None): module for module in modules}
    compiled = [module for code, module in own.items() if code is not None and was_compiled(code)]
    torch.compiler.reset()
    if compiled:
        warnings.warn(
            f"{type(compiled[0]).__name__}.forward was compiled and run before attach; compiled "
            "code ignores hooks that are added later. torch.compiler.reset() was called, and it "
            "will be compiled again. To avoid that, attach before the first call of the compiled "
            "model",
            CMIEIWarning,
            stacklevel=3,
        )


def why_never_called(name: str, head: nn.Module, model: nn.Module | None) -> str:
    """Why the head was not called in training mode in the last epoch, as far as can be seen."""
    said = (
        f"the head {name!r} was not called in training mode in the last epoch, or ever: nothing "
        "was measured and nothing was substituted. "
    )
    if model is not None and all(module is not head for module in model.modules()):
        return said + "It is no longer part of the model: attach again after replacing a module"
    if not head.training:
        return said + "It is in eval mode: call model.train() before training"
    return said + (
        "The model may use the module without calling it (head.forward(x), F.linear(x, "
        "head.weight)), call it in another branch only, or run code that was compiled before the "
        "hook was added. Name a module that the model calls as module(x)"
    )
