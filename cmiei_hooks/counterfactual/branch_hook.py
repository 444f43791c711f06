"""A hook on a branch, or on a module that contains all branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .._torch import untraced
from ..fusion import Head

__all__ = ["BranchHook"]


class BranchHook:
    """One of the hooks. Copies (deepcopy, pickle) do nothing.

    Args:
        head: of branches; its own hooks are on no module of the model.
        passes: whether a call of a module is to be left alone.
        run: what is called with the module and the arguments of the hook.
        arguments: the number of these.
        number: if there is one, it comes first.
    """

    def __init__(
        self,
        head: Head | None = None,
        passes: Callable[[nn.Module], bool] | None = None,
        run: Callable[..., Any] | None = None,
        arguments: int = 0,
        number: int | None = None,
    ) -> None:
        self.head, self._passes, self._arguments = head, passes, arguments
        self._first = () if number is None else (number,)
        # Not traced by Dynamo, as the pre-hook.
        self._run: Any = run and untraced(run)

    def __call__(self, module: nn.Module, *given: Any) -> Any:
        """The signature of a forward hook or pre-hook registered with ``with_kwargs=True``."""
        if self._passes is None or self._passes(module):
            return None
        if len(given) != self._arguments:
            return None  # quantisation moves hooks to new modules, without keyword arguments
        return self._run(*self._first, module, *given)

    def __deepcopy__(self, memo: dict[int, Any]) -> BranchHook:
        return BranchHook()

    def __reduce__(self) -> tuple[type[BranchHook], tuple[()]]:
        return BranchHook, ()
