"""Find the model of a script that is running, in its training calls."""

from __future__ import annotations

import os
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from .._torch import compiling, in_backward, transform
from ..errors import CMIEIError
from ..fusion import Head, suggested_heads, unwrapped

__all__ = ["HeadSearch", "TrainingCalls"]

_PATIENCE = 50
"""After this many training calls without the head the user is told."""

_MOST_NAMED = 4


class _Modules:
    """A set of modules by identity, that keeps none of them alive."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[nn.Module]] = {}

    def add(self, module: nn.Module) -> None:
        self._known[id(module)] = weakref.ref(module)

    def discard(self, module: nn.Module) -> None:
        self._known.pop(id(module), None)

    def __contains__(self, module: nn.Module) -> bool:
        known = self._known.get(id(module))
        return known is not None and known() is module

    def __iter__(self) -> Iterator[nn.Module]:
        return (module for known in self._known.values() if (module := known()) is not None)


class TrainingCalls(ABC):
    """Sees the training calls of a script, by a forward pre-hook on all modules.

    A training call is a call with gradient, in training mode, of a module with trainable
    parameters. It is an outermost call if the script makes it, and not another module.
    """

    def __init__(self) -> None:
        self.count = 0
        """The number of outermost training calls so far."""
        self.outermost = _Modules()
        """The modules that the script itself has called."""
        self._below = _Modules()
        self._process = os.getpid()
        self._hook: RemovableHandle | None = None

    def start(self) -> None:
        """Register the hook."""
        # Torch warns of any hook on all modules in the call of a compiled one. This one is taken
        # off before the model is compiled.
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global")
        self._hook = register_module_forward_pre_hook(self)

    def stop(self) -> None:
        """Remove the hook. It may be called again."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def __call__(self, module: nn.Module, _: Any) -> None:
        """The signature of a forward pre-hook."""
        if compiling() or not torch.is_grad_enabled():
            return
        # A forked process inherits the hook.
        if os.getpid() != self._process or in_backward() or transform() is not None:
            return
        outermost = module not in self._below
        if outermost and module not in self.outermost:
            self.outermost.add(module)
            for inner in module.modules():
                if inner is not module:
                    self._below.add(inner)
        trains = outermost and _trains(module)
        self.count += trains
        self.called(module, outermost, trains)

    def look_inside(self, module: nn.Module) -> None:
        """Take the children of a module for outermost from now on."""
        for child in module.children():
            self._below.discard(child)

    @abstractmethod
    def called(self, module: nn.Module, outermost: bool, trains: bool) -> None:
        """Act on a call with gradient.

        Args:
            module: what is called.
            outermost: whether the script calls it.
            trains: whether it is an outermost training call.
        """


def _trains(module: nn.Module) -> bool:
    trainable = any(parameter.requires_grad for parameter in module.parameters())
    return trainable and any(inner.training for inner in module.modules())


class HeadSearch(TrainingCalls):
    """Finds the first call with gradient of a module that holds the head, in training mode.

    Args:
        locate: finds the head in a module, or raises a CMIEIError.
        name: the name of the head, of a chain that of its first link.
        found: is called with the module before its forward, once.
        say: is called with a message if the search takes long.
    """

    def __init__(
        self,
        locate: Callable[[nn.Module], Head],
        name: str,
        found: Callable[[nn.Module], None],
        say: Callable[[CMIEIError], None],
    ) -> None:
        super().__init__()
        self._locate, self._name, self._found, self._say = locate, name, found, say
        self._without = _Modules()

    def called(self, module: nn.Module, outermost: bool, trains: bool) -> None:
        """Attach if the module holds the head; give up waiting in silence after a while."""
        if outermost or module not in self._without:  # a script may change what it calls
            head = self._head_of(module)
            if head is None:
                self._without.add(module)
            elif head.first.training:
                self.stop()
                self._found(module)
                return
        if trains and self.count == _PATIENCE:
            self._say(self.failure())

    def _head_of(self, module: nn.Module) -> Head | None:
        paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
        if self._name not in paths and self._name not in map(unwrapped, paths):
            return None  # the error of locate() lists similar names, which takes long
        try:
            return self._locate(module)
        except CMIEIError:
            return None

    def failure(self) -> CMIEIError:
        """Why nothing is measured, as far as can be seen."""
        seen = [module for module in self.outermost if any(True for _ in module.parameters())]
        if not self.count or not seen:
            return CMIEIError(
                "no training call was seen, so nothing was measured",
                got=f"{len(seen)} modules with parameters called with gradient, none in training "
                "mode",
                expected=f"calls of a module that holds {self._name!r}, in training mode and with "
                "gradient",
                remedy="if the script starts other processes that train (mp.spawn, torchrun, "
                "subprocess), start each of them with cmiei run: torchrun --no-python cmiei run",
            )
        model = max(seen, key=lambda module: sum(1 for _ in module.modules()))
        calls = f"{self.count} training calls"
        try:
            head = self._locate(model)
        except CMIEIError as error:
            reason = error
        else:
            reason = CMIEIError(
                f"the head {self._name!r} is in eval mode",
                got=f"{type(head.first).__name__}.training False",
                expected="a head in training mode",
                remedy="call model.train() before training",
            )
        named = "; ".join(map(_described, seen[:_MOST_NAMED]))
        return CMIEIError(
            f"nothing is measured after {calls}: {reason.problem}",
            got=f"{reason.got}; the script called {named}",
            expected=reason.expected,
            remedy=reason.remedy + "; name the head as in the module that the script calls",
        )


def _described(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"Linear ({module.in_features} -> {module.out_features})"
    found = suggested_heads(dict(module.named_modules()))
    return f"{type(module).__name__}, which may have the heads {found}"
