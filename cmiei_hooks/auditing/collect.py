"""Run a model over batches, or its head over saved calls, and keep what an audit needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import discovery
from .._torch import dynamo_is_loaded, original
from ..counterfactual import isolated
from ..errors import CMIEIError, InputError
from ..fusion import Head, eval_mode, tensors, training_branch
from ..training import paused
from .batches import Batch, read_batch
from .call_in_words import explain
from .collected import Collected
from .observer import Observer
from .offloaded import execution_device, is_offloaded
from .options import AuditOptions, Forward
from .remedies import WAYS
from .saved_call import SavedCall

__all__ = ["collect", "collect_again", "device_of", "settle"]


_HAS_STANCES = hasattr(torch.compiler, "set_stance")
"""Since torch 2.6. Before, the model is audited without its wrapper of ``torch.compile``."""


def collect(
    model: nn.Module,
    batches: Iterable[Any],
    head: Head,
    options: AuditOptions,
    *,
    keep_calls: bool = False,
) -> Collected:
    """Run the model over the batches and observe its head in each.

    Whatever the loader or the model raises, Ctrl-C too, ends it early and is kept as ``error``.
    Afterwards the model is as before, and so are the global random generators.

    Args:
        model: the model that contains the head.
        batches: as ``audit`` takes them.
        head: where to observe.
        options: the mode, and what the batches hold.
        keep_calls: keep what the head receives too.
    """
    if not _HAS_STANCES:
        model = original(model)  # its compiled code may run without the hooks
    device = device_of(model)
    found = Collected()
    observer = Observer(model, head, options, found, device, keep_calls=keep_calls)
    index, processes = options.shard
    seen = 0
    with _ending(found), _running(model, device, options), observer.listening():
        with _ending(found):
            for number, given in enumerate(batches):
                with_null = seen < options.null_samples
                seen += next((len(x) for _, x in tensors(given) if x.dim()), 0)
                if number % processes == index:
                    checked = options.forward is None
                    where = discovery.device_of(model, ((given,), {}))
                    batch = read_batch(model, given, where, options.columns, checked=checked)
                    found.sources, found.label_source = batch.sources, batch.label_source
                    before = _generators(device)
                    observer.number, observer.with_null = number, with_null
                    call = partial(_call, model, batch, options.forward)
                    with _explained(batch, options) if number == index else nullcontext():
                        observer.watch(batch, call)
                    found.drew |= not all(map(torch.equal, before, _generators(device)))
                if options.limit is not None and seen >= options.limit:
                    break
        settle(observer, options)
    return found


def collect_again(
    model: nn.Module, calls: Iterable[SavedCall], head: Head, options: AuditOptions
) -> Collected:
    """Observe the head alone, over calls of it that were saved."""
    device = device_of(model)
    found = Collected()
    observer = Observer(model, head, options, found, device)
    index, processes = options.shard
    with _ending(found), _running(model, device, options):
        with _ending(found):
            for number, saved in enumerate(calls):
                if number % processes == index:
                    observer.look(saved.restored(head, device), saved)
        settle(observer, options)
    return found


@contextmanager
def _explained(batch: Batch, options: AuditOptions) -> Iterator[None]:
    """What the model raises inside says how the model was called."""
    try:
        yield
    except CMIEIError:
        raise
    except Exception as error:
        explain(error, batch, options)
        raise


def settle(observer: Observer, options: AuditOptions) -> None:
    """What all samples are needed for. Ctrl-C waits for it."""
    observer.settle(everywhere=options.shard[1] > 1)


@contextmanager
def _ending(found: Collected) -> Iterator[None]:
    """Whatever is raised inside ends the audit early; what there is can still be reported."""
    try:
        yield
    except BaseException as error:  # Ctrl-C too
        found.error = found.error or error


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter, or where a model runs that is offloaded; else the CPU."""
    where = execution_device(model) if is_offloaded(model) else None
    return where or discovery.device_of(model, ((), {}))


@contextmanager
def _running(model: nn.Module, device: torch.device, options: AuditOptions) -> Iterator[None]:
    mode = training_branch if options.in_training_branch else eval_mode
    autocast = torch.autocast(device.type) if options.amp else nullcontext()
    with mode(model), isolated(model, device), paused(model), _eager(), autocast:
        yield


def _eager() -> AbstractContextManager[object]:
    """Compiled code runs as if it were not compiled: it ignores later hooks."""
    # Without Dynamo nothing is compiled, and to set its stance would load it: a second.
    if not _HAS_STANCES or not dynamo_is_loaded():
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _call(model: nn.Module, batch: Batch, forward: Forward | None) -> None:
    if forward is not None:
        forward(model, batch.given)
        return
    args, kwargs = batch.call
    try:
        model(*args, **kwargs)
    except (TypeError, AttributeError) as error:
        # A dict was passed as one argument since its keys are not those of forward: a mistake?
        if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
            raise
        raise InputError(
            "the model cannot be called with a batch of this loader",
            got=f"a dict of {', '.join(map(str, args[0]))} as one argument, since forward has no "
            f"such keywords: {error}",
            expected="a dict of the keywords of forward, or of what forward takes as one dict",
            remedy=f"name the keys as forward names its arguments, or {WAYS}",
        ) from error


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
