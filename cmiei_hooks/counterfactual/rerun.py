"""The head run again in one call: complete, and with some modalities replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .._torch import is_weight_hook, out_of_memory, pre_hooks
from ..errors import HeadError
from ..fusion import (
    Call,
    Captured,
    Change,
    FunctionLink,
    Head,
    describe,
    read_logits,
    read_tensor,
    refuse_weights,
    with_values,
)
from ..measures import least_logits
from .failure import failed_without, may_be_of_the_input
from .hook_check import of_this_package
from .isolation import isolated, private_copy
from .recursion import running

__all__ = ["reruns", "run_links", "run_links_and_trace"]


@contextmanager
def reruns(head: Head, captured: Captured) -> Iterator[Callable[[Mapping[int, Change]], Tensor]]:
    """Inside, the head can be run again with some modalities changed, without a trace.

    For use inside a pre-hook of the first link. The link is entered through ``forward``: the user's
    hooks do not run a second time, and what must run before the head (FSDP) has run. Yields a
    function from changes, by the index of the modality, to logits ``[B, C]``; every run draws the
    same dropout masks. It raises a ``HeadError`` if the head fails on changed modalities.
    """
    refuse_weights(head.whole)
    others = captured.call_with(dict.fromkeys(captured.tensors))
    with isolated(head.whole, captured.device) as rewind:

        def logits_with(changes: Mapping[int, Change]) -> Tensor:
            rewind()  # each run begins where the real forward will
            # Copies: the head may begin with an in-place ReLU, or fill a list that it is given.
            call = with_values(private_copy(others, {}), captured.changed(changes))
            try:
                return run_links(head, call, captured).clone()  # the head may reuse its output
            except Exception as error:
                if not changes or not may_be_of_the_input(error):
                    raise
                raise failed_without(head, captured, changes, error) from error

        yield logits_with


def run_links(head: Head, call: Call, captured: Captured) -> Tensor:
    """Run all links of the head, for use under ``isolated``.

    Args:
        head: about to be called.
        call: its arguments, which may be written into.
        captured: the call that they are a copy of.
    """
    return run_links_and_trace(head, call, captured)[0]


def run_links_and_trace(head: Head, call: Call, captured: Captured) -> tuple[Tensor, Tensor]:
    """The logits, and what the last link received (of a single module: the logits again)."""
    with running(head):
        for hook in pre_hooks(head.first)[_behind_ours(head.first) :]:
            # These compute the weight, and have not run yet. Those before our hook have.
            if is_weight_hook(hook.call):
                hook.call(head.first, call[0])
        returned = _reenter(head.first, *call)
        received = None
        links = zip(head.names, head.names[1:], head.outputs, head.links[1:], strict=False)
        for giver, name, output, link in links:
            received = read_tensor(returned, output, giver)
            returned = _run_later(name, link, received)
    least, inputs = least_logits(head.measure), captured.tensors.values()
    logits = read_logits(returned, head.outputs[-1], captured.batch, least, inputs)
    return logits, logits if received is None else received


def _behind_ours(link: nn.Module) -> int:
    """The position behind the first pre-hook of this package, which is running now."""
    ours = [of_this_package(hook.call) for hook in pre_hooks(link)]
    return ours.index(True) + 1 if True in ours else len(ours)


def _reenter(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return head.forward(*args, **kwargs)


def _run_later(name: str, link: nn.Module, features: Tensor) -> Any:
    """Run a later link. It is not inside its own call: what must run before it has not."""
    if any(hasattr(parameter, "to_local") for parameter in link.parameters()):
        raise HeadError(
            f"the link {name!r} has sharded parameters of its own",
            got=f"{type(link).__name__} with DTensor parameters",
            expected="links whose parameters are whole while the first one runs",
            remedy="shard a module that contains all links, or only the first one",
        )
    args: Any = (features,)
    for hook in pre_hooks(link):
        # Weight norm, spectral norm and pruning compute the weight; other hooks run once, later.
        if is_weight_hook(hook.call):
            hook.call(link, args)
    try:
        return link.forward(*args)
    except Exception as error:
        if out_of_memory(error):
            raise
        # A module of the model's raises what it raises; a function was only named by the user.
        if not isinstance(error, (TypeError, RuntimeError)) and not isinstance(link, FunctionLink):
            raise
        raise HeadError(
            f"the link {name!r} cannot be called with what the link before it returns",
            got=f"{describe(features)}: {f'{type(error).__name__}: {error}'.splitlines()[0]}",
            expected="links of which each takes the tensor of the one before, and nothing else",
            remedy="what the model does between them (another argument, a reshape) is not part of "
            "the chain: name a module that contains it, or fewer links",
        ) from error
