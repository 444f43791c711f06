"""The forward pre-hook that is registered on the head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .._torch import compiling, exporting, forward_hooks, frames_are_read, pre_hooks
from ..counterfactual import BranchHook, of_this_package
from ..fusion import Call, refuse_replica
from .step import Step

__all__ = ["PreHook", "active_hooks", "paused", "strip"]


class PreHook:
    """What is registered on the head. Copies of it (deepcopy, pickle) do nothing."""

    def __init__(self, step: Step | None = None) -> None:
        self._step = step
        self.paused = False
        """During a dry run the hook does nothing."""
        # Dynamo must not trace the step: one graph break in front of the head. (Disabling
        # imports Dynamo, which is slow; hence here and not when this module is imported.)
        self._run: Callable[..., Call | None] | None = (
            torch.compiler.disable(step)  # type: ignore[no-untyped-call]  # no types in torch
            if step is not None
            else None
        )

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Call | None:
        """The signature of a forward pre-hook registered with ``with_kwargs=True``.

        Tools that swap modules (quantisation) register the hooks of the old module on the new one,
        without keyword arguments: there the hook does nothing.
        """
        # Here and not in the step: in eval mode there is no graph break either.
        if not module.training or self.paused or self._run is None or self._step is None:
            return None
        read = compiling()
        if read and exporting():
            return None
        if kwargs is None:
            self._step.notices.moved_by_another_tool(type(module).__name__)
            return None
        refuse_replica(module, self._step.head.first)
        # Disabling Dynamo takes a while. Without it, nothing compiles the step.
        return self._run(args, kwargs) if read or frames_are_read() else self._step(args, kwargs)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules of the head; none if the hook does nothing."""
        return () if self._step is None else tuple(m for _, m in self._step.head.modules)

    def pause(self, paused: bool) -> None:
        """Stop acting for a dry run of the model, or go on after it."""
        self.paused = paused
        if self._step is not None:
            self._step.output.paused = paused

    def end(self) -> None:
        """Do nothing from now on: compiled code may go on calling a hook that was removed."""
        step, self._step, self._run = self._step, None, None
        if step is not None:
            step.end()

    def __deepcopy__(self, memo: dict[int, Any]) -> PreHook:
        return PreHook()

    def __reduce__(self) -> tuple[type[PreHook], tuple[()]]:
        return PreHook, ()


def strip(model: nn.Module) -> None:
    """End the attachments of a model, and remove every hook of this package, inert ones too."""
    for _, active in active_hooks(model):
        active.end()
    for module in model.modules():
        for hook in (*pre_hooks(module), *forward_hooks(module)):
            if of_this_package(hook.call):
                _remove(module, hook.key)


def _remove(module: nn.Module, number: int) -> None:
    """Remove one hook as its ``RemovableHandle`` would, which a copy of a model does not have."""
    for registry in vars(module).values():
        if isinstance(registry, OrderedDict):
            registry.pop(number, None)


def active_hooks(model: nn.Module) -> list[tuple[str, PreHook]]:
    """The attachments of a model, with the paths of the modules they are registered on.

    A head of branches has no path; it has its name.
    """
    found: dict[int, tuple[str, PreHook]] = {}
    for path, module in model.named_modules():
        calls = [(path, hook.call) for hook in pre_hooks(module)]
        # The hook of a head of branches is on no module of the model.
        heads = [c.head for _, c in calls if isinstance(c, BranchHook) and c.head]
        calls += [(head.name, hook.call) for head in heads for hook in pre_hooks(head.first)]
        for where, call in calls:
            if isinstance(call, PreHook) and call.modules:
                found[id(call)] = where, call
    return list(found.values())


@contextmanager
def paused(model: nn.Module) -> Iterator[None]:
    """Inside, the attachments of the model do nothing. Unlike suspension, this leaves no trace."""
    pausing = [hook for _, hook in active_hooks(model)]
    for hook in pausing:
        hook.pause(True)
    try:
        yield
    finally:
        for hook in pausing:
            hook.pause(False)
