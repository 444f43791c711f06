"""Ways in which a model goes round the hook on its head, so that nothing is silently a no-op."""

from __future__ import annotations

import sys
import warnings

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import CMIEIWarning, HeadError

__all__ = ["drop_compiled_code", "explain_silence", "refuse_bypassed", "refuse_replica"]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def refuse_bypassed(model: nn.Module, name: str, head: nn.Module) -> None:
    """Refuse a head whose hook would never run, or would run on copies.

    Raises:
        HeadError: naming the cause and the remedy.
    """
    if isinstance(head, _CONTAINERS):
        raise HeadError(
            f"{name!r} is a container that is never called, so a hook on it would never run",
            got=type(head).__name__,
            expected="a module whose forward the model calls",
            remedy=f"name one of its parts, such as {name + '.0'!r}",
        )
    if any(isinstance(m, torch.jit.ScriptModule) for m in (model, *head.modules())):
        raise HeadError(
            "a scripted or traced module runs no Python hooks and keeps its state out of reach",
            got=f"{name!r} is or holds one",
            expected="the nn.Module that was scripted",
            remedy="attach to the model before torch.jit.script or torch.jit.trace, in training",
        )
    lazy = [path for path, part in head.named_modules() if path and _uninitialised(part)]
    if lazy:
        raise HeadError(
            f"{name!r} holds a lazy module that has not been called yet",
            got=", ".join(f"{name}.{path}" for path in lazy),
            expected="parameters that exist",
            remedy="run one batch through the model before attach",
        )
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


def _uninitialised(module: nn.Module) -> bool:
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(is_lazy(tensor) for tensor in tensors)


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
    """Make ``torch.compile`` compile again: what it compiled before ignores hooks added later."""
    if "torch._dynamo" not in sys.modules:
        return
    from torch._dynamo import convert_frame  # noqa: PLC0415  # slow, and only if it is in use

    codes = convert_frame.input_codes
    if not codes.seen:
        return
    # Compiled code may hold the model without being the model's own: reset whatever there is.
    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    own = {getattr(type(module).forward, "__code__", None): module for module in modules}
    compiled = [module for code, module in own.items() if code is not None and code in codes]
    torch._dynamo.reset()
    if compiled:
        warnings.warn(
            f"{type(compiled[0]).__name__}.forward was compiled and run before attach; compiled "
            "code ignores hooks that are added later: torch._dynamo.reset() was called, it will be "
            "compiled once more. Attach before the first call of the compiled model to avoid that",
            CMIEIWarning,
            stacklevel=3,
        )


def explain_silence(name: str, head: nn.Module, model: nn.Module | None) -> str:
    """Why the head was not called in training mode in a whole epoch, as far as it can be seen."""
    said = (
        f"the head {name!r} was not called in training mode in the last epoch, or ever: nothing "
        "was measured and nothing was substituted. "
    )
    if model is not None and all(module is not head for module in model.modules()):
        return said + "It is no longer part of the model: attach again after replacing a module"
    if not head.training:
        return said + "It is in eval mode: call model.train() before training"
    return said + (
        "The model may go round the module (head.forward(x), F.linear(x, head.weight)), use it in "
        "another branch only, or run as compiled code that is older than the hook. Name a module "
        "that the model calls as module(x)"
    )
