"""Do the user's forward hooks change what the head returns? Re-runs leave them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import (
    ForwardHook,
    forward_hook_keys,
    forward_hooks,
    in_backward,
    transform,
    untraced,
)
from ..errors import CMIEIError, HeadError
from ..fusion import Head, read_part
from .isolation import not_recorded

__all__ = ["HookCheck", "of_this_package"]

_CALLS = 8
"""The check gives up after this many calls: code that was compiled before runs no new hooks."""

_TOLERANCE = 1e-3
"""The largest relative difference that may come from a conversion to another type."""


class HookCheck:
    """Compares what the module returned with what the user's forward hooks made of it.

    A hook that only observes must not run more often than without the tool, and only its effect
    tells it from one that changes the output. So the effect is watched in a real call, by two hooks
    around those of the user, and a change is refused. The two are registered when the user's hooks
    have changed since the last check, and removed after the call.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._known: list[int] = []
        """The hooks that were watched."""
        self._watched: list[int] = []
        self._handles: list[RemovableHandle] = []
        self._calls = 0
        self._armed = False
        """Whether the current call is checked: it is not in eval mode, and not suspended."""
        self._raw: Tensor | None = None
        self._asked: tuple[int, ...] = ()
        """All hooks when there were last none to be watched; ours among them."""
        self._watch([hook.key for hook in self._hooks()])  # before the model may be compiled

    @property
    def open(self) -> bool:
        """Whether there are hooks of the user's that were not watched yet."""
        if self._handles:
            return True
        # Asked in every step. The same hooks as the last time have the same answer.
        keys = forward_hook_keys(self._head.last)
        if keys != self._asked:
            if [hook.key for hook in self._hooks()] != self._known:
                return True
            self._asked = keys
        return False

    def _hooks(self) -> list[ForwardHook]:
        return [hook for hook in forward_hooks(self._head.last) if _of_user(hook.call)]

    def arm(self) -> None:
        """Check the current call, if there are hooks that were not watched yet."""
        keys = [hook.key for hook in self._hooks()]
        if keys == self._known:
            return
        self._calls = self._calls + 1 if keys == self._watched else 1
        if self._calls > _CALLS or not keys:
            self._settle(keys)
        else:
            self._watch(keys)
            self._armed = True

    def _watch(self, keys: list[int]) -> None:
        if keys != self._watched:
            self.close()
            self._watched = keys
            register = self._head.last.register_forward_hook
            self._handles = [
                register(_Hook(self._note), prepend=True),
                register(_Hook(self._judge)),
            ]

    def _settle(self, keys: list[int]) -> None:
        self._known = keys
        self.close()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._watched, self._raw, self._armed = [], [], None, False

    def _note(self, returned: Any) -> None:
        judged = self._armed and not in_backward() and transform() is None
        raw = self._logits(returned) if judged else None
        self._raw = None if raw is None else raw.detach().clone()

    def _judge(self, returned: Any) -> None:
        raw, logits, keys = self._raw, self._logits(returned), self._watched
        if raw is None:
            return
        names = [getattr(h.call, "__qualname__", type(h.call).__name__) for h in self._hooks()]
        self._settle(keys)
        if logits is None or not _equal(raw, logits.detach()):
            self._known = []
            raise HeadError(
                f"a forward hook changes what the head {self._head.name!r} returns",
                got=f"forward hooks: {', '.join(names)}",
                expected="hooks that change nothing: the head is run again without them, so that "
                "they do not run more often",
                remedy="name a module that contains the head (hooks inside are part of a re-run), "
                "or do in the head's forward what the hook does",
            )

    def _logits(self, returned: Any) -> Tensor | None:
        try:
            with torch.no_grad(), not_recorded():
                found = read_part(returned, self._head.outputs[-1])
        except CMIEIError:
            return None
        return found if isinstance(found, Tensor) else None


class _Hook:
    """One of the two hooks. Copies (deepcopy, pickle) do nothing."""

    def __init__(self, look: Callable[[Any], None] | None = None) -> None:
        # Not traced by Dynamo, as the pre-hook.
        self._look: Any = look and untraced(look)

    def __call__(self, module: nn.Module, args: Any, returned: Any) -> None:
        """The signature of a forward hook."""
        if self._look is not None:
            self._look(returned)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return True  # there is nothing to compare
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    largest = one.nan_to_num(0, 0, 0).abs().max() if one.numel() else 0
    return bool(
        torch.allclose(one, other, rtol=0, atol=float(largest) * _TOLERANCE, equal_nan=True)
    )


def of_this_package(hook: Callable[..., Any]) -> bool:
    """Whether a hook is one of this package's."""
    return _package_of(hook) == "cmiei_hooks"


def _of_user(hook: Callable[..., Any]) -> bool:
    return _package_of(hook) not in ("cmiei_hooks", "torch")


def _package_of(hook: Callable[..., Any]) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    name = getattr(hook, "__module__", None) or type(hook).__module__
    return str(name).partition(".")[0]
