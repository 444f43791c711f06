"""Find the model of a script that is running, in its training calls."""

from __future__ import annotations

import os
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .._torch import anything_compiled, before_every_call, compiling, in_backward, transform
from ..errors import CMIEIError
from ..fusion import Head, suggested_heads, unwrapped

__all__ = ["HeadSearch", "Modules", "TrainingCalls"]

_PATIENCE = 50
"""After this many training calls without the head the user is told."""

_MOST_NAMED = 4


class Modules:
    """A set of modules by identity, that keeps none of them alive."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[nn.Module]] = {}

    def add(self, module: nn.Module) -> None:
        """Put a module in."""
        self._known[id(module)] = weakref.ref(module)

    def discard(self, module: nn.Module) -> None:
        """Take a module out, if it is in."""
        self._known.pop(id(module), None)

    def __contains__(self, module: nn.Module) -> bool:
        known = self._known.get(id(module))
        return known is not None and known() is module


class TrainingCalls(ABC):
    """Sees the training calls of a script, by a forward pre-hook on all modules.

    A training call is a call with gradient, in training mode, of a module with trainable
    parameters. It is an outermost call if the script makes it, and not another module.
    """

    def __init__(self) -> None:
        self.count = 0
        """The number of outermost training calls so far."""
        self.outermost = Modules()
        """The modules that the script itself has called."""
        self._below = Modules()
        self._process = os.getpid()
        self._hook: RemovableHandle | None = None

    def start(self) -> None:
        """Register the hook."""
        # Torch warns of any hook on all modules in the call of a compiled one. This one is taken
        # off before the model is compiled.
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global")
        self._hook = before_every_call(self)

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
        self._without, self._remembered = Modules(), Modules()
        self._called: list[_Called] = []
        self._in_eval = False

    def called(self, module: nn.Module, outermost: bool, trains: bool) -> None:
        """Report the module if it holds the head, and that the search takes long."""
        if outermost or module not in self._without:  # a script may change what it calls
            head = self._head_of(module)
            if head is not None and head.modules[0][1].training:
                self.stop()
                self._found(module)
                return
            if head is None:
                self._without.add(module)
        self._in_eval = self._in_eval or (outermost and not module.training)
        if trains:
            self._remember(module)
            if self.count == _PATIENCE:
                self._say(self.failure())

    def _head_of(self, module: nn.Module) -> Head | None:
        paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
        if self._name not in paths and self._name not in map(unwrapped, paths):
            return None  # the error of locate() lists similar names, which takes long
        try:
            return self._locate(module)
        except CMIEIError:
            return None

    def _remember(self, module: nn.Module) -> None:
        """Keep what there is to say of a module: when it is said, the module may be gone."""
        if module in self._remembered or len(self._called) == _MOST_NAMED:
            return
        self._remembered.add(module)
        size = sum(1 for _ in module.modules())
        self._called.append(_Called(_described(module), size, self._why_not(module)))

    def _why_not(self, module: nn.Module) -> CMIEIError:
        try:
            head = self._locate(module)
        except CMIEIError as error:
            return error.with_traceback(None)  # which would keep the module alive
        return CMIEIError(
            f"the head {self._name!r} is in eval mode",
            got=f"{type(head.modules[0][1]).__name__}.training False",
            expected="a head in training mode",
            remedy="call model.train() before training",
        )

    def failure(self) -> CMIEIError:
        """Why nothing is measured, as far as can be seen."""
        if not self._called:
            compiled = (
                "; a call inside compiled code (model.compile(), a compiled function) is not seen "
                "either: compile with torch.compile(model), or set TORCH_COMPILE_DISABLE=1"
            )
            return CMIEIError(
                "no training call was seen, so nothing was measured",
                got="calls in eval mode only" if self._in_eval else "no call with gradient",
                expected=f"calls of a module that holds {self._name!r}, in training mode and with "
                "gradient",
                remedy="processes that the script starts itself (mp.spawn, subprocess) are not "
                "observed; start each rank by torchrun --no-python cmiei run ... -- SCRIPT"
                + compiled
                * anything_compiled(),
            )
        calls = f"{self.count} training call" + "s" * (self.count != 1)
        largest = max(self._called, key=lambda called: called.size).why_not
        return CMIEIError(
            f"nothing is measured after {calls}: {largest.problem}",
            got=f"{largest.got}; the script called "
            + "; ".join(called.described for called in self._called),
            expected=largest.expected or f"a module that holds {self._name!r}",
            remedy=(largest.remedy and f"{largest.remedy}; ")
            + "name the head as in the module that the script calls",
        )


@dataclass(frozen=True)
class _Called:
    """A module that a script trains, and that is not the one with the head."""

    described: str
    size: int
    """The number of modules in it."""
    why_not: CMIEIError


def _described(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"Linear ({module.in_features} -> {module.out_features})"
    found = suggested_heads(dict(module.named_modules()))
    return f"{type(module).__name__}, which may have the heads {found}"
