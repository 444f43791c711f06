"""How a function of the user's calls the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from ..errors import InputError
from ..fusion import Call
from .inputs import bare_model

__all__ = ["call_in"]


class _Called(BaseException):
    """Ends the function when the model is called; nothing of the model runs."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


def call_in(
    forward: Callable[[nn.Module, Any], Any],
    model: nn.Module,
    batch: Any,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
) -> Call:
    """The arguments with which ``forward(model, batch)`` calls the model first.

    Args:
        forward: the user's function.
        model: which may be wrapped.
        batch: on its device.
        mode: ``eval_mode`` or ``training_branch``.

    Raises:
        InputError: it does not call the model as ``model(...)``.
    """
    bare = bare_model(model)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Called((args, kwargs))

    handle = bare.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with mode(bare):
            forward(bare, batch)
    except _Called as called:
        return called.call
    finally:
        handle.remove()
    raise InputError(
        "forward= does not call the model",
        got="a function that returned without a call of model(...)",
        expected="model(...) in forward(model, batch), since discover runs the model itself",
        remedy="let forward call model(...), or call cmiei_hooks.discover(part, *inputs) in Python "
        "with the part of the model that it does call",
    )
