"""Does the hook on a head run: compiled code that ignores it, and modules that are never called."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from .._torch import anything_compiled, was_compiled
from ..errors import CMIEIWarning

__all__ = ["drop_compiled_code", "why_never_called"]


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
