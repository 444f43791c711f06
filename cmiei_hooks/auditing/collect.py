"""Run a model over batches, or its head over saved calls, and keep what an audit needs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..counterfactual import ChainCheck, expectation, isolated
from ..errors import HeadError, InputError
from ..fusion import Call, Head, eval_mode, mapped, tensors, training_branch
from ..training import paused
from .batches import Batch, read_batch
from .options import AuditOptions, Forward
from .samples import Samples, observe

__all__ = ["Collected", "SavedCall", "collect", "collect_again", "device_of"]


@dataclass(frozen=True)
class SavedCall:
    """One call of the head, on the CPU."""

    call: Call
    batch: int
    """The number of the batch."""
    label: Tensor | None
    group: tuple[str, ...] | None
    with_null: bool
    """Whether the null is measured on its samples."""


@dataclass
class Collected:
    """What was observed so far."""

    parts: list[Samples] = field(default_factory=list)
    """The samples of each call of the head."""
    calls: list[SavedCall] = field(default_factory=list)
    """What the head received in each call, if that is saved."""
    error: BaseException | None = None
    """The error that ended the collection early."""
    drew: bool = False
    """Whether the model drew random numbers."""
    sources: dict[str, str] = field(default_factory=dict)
    """Which column of a batch each argument of ``forward`` was."""
    label_source: str | None = None
    """Which column of a batch the labels were."""


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
    device = device_of(model)
    found = Collected()
    observer = _Observer(model, head, options, found, keep_calls)
    index, processes = options.shard
    seen = 0
    try:
        with _running(model, device, options), observer.listening():
            for number, given in enumerate(batches):
                with_null = seen < options.null_samples
                seen += next((len(x) for _, x in tensors(given) if x.dim()), 0)
                if number % processes == index:
                    checked = options.forward is None
                    batch = read_batch(model, given, device, options.columns, checked=checked)
                    found.sources, found.label_source = batch.sources, batch.label_source
                    before = _generators(device)
                    observer.number, observer.with_null = number, with_null
                    observer.watch(batch, partial(_call, model, batch, options.forward))
                    found.drew |= not all(map(torch.equal, before, _generators(device)))
                if options.limit is not None and seen >= options.limit:
                    break
    except BaseException as error:  # Ctrl-C too: what there is can still be reported
        found.error = error
    return found


def collect_again(
    model: nn.Module, calls: Iterable[SavedCall], head: Head, options: AuditOptions
) -> Collected:
    """Observe the head alone, over calls of it that were saved."""
    device = device_of(model)
    found = Collected()
    index, processes = options.shard
    try:
        with _running(model, device, options):
            for number, saved in enumerate(calls):
                if number % processes != index:
                    continue
                args, kwargs = (mapped(given, lambda x: x.to(device)) for given in saved.call)
                captured = head.partition.read(args, kwargs)
                samples = observe(
                    head, captured, batch=saved.batch, seed=options.seed, with_null=saved.with_null
                )
                samples = dataclasses.replace(samples, label=saved.label, group=saved.group)
                found.parts.append(samples)
    except BaseException as error:  # as in collect
        found.error = error
    return found


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter; the CPU for a model without parameters."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def _running(model: nn.Module, device: torch.device, options: AuditOptions) -> Iterator[None]:
    mode = training_branch if options.in_training_branch else eval_mode
    autocast = torch.autocast(device.type) if options.amp else contextlib.nullcontext()
    with mode(model), isolated(model, device), paused(model), autocast:
        yield


class _Observer:
    """The hook on the first link of the head, and what it knows of the batch being run."""

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        options: AuditOptions,
        found: Collected,
        keep_calls: bool,
    ) -> None:
        self.model, self.head, self.options = model, head, options
        self.found, self.keep_calls = found, keep_calls
        self.check = ChainCheck()
        self.number, self.with_null = 0, True
        """The number of the batch, and whether the null is measured on it."""
        self.batch: Batch | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.check = ChainCheck(self.head, self.model)
        handle = self.head.first.register_forward_pre_hook(self, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
            self.check.close()

    def watch(self, batch: Batch, run: Callable[[], None]) -> None:
        """Run one batch; the head must be called in it."""
        self.batch = batch
        calls = len(self.found.parts)
        run()
        if len(self.found.parts) == calls or self.check.missing:
            names = self.head.names
            name = names[0] if len(self.found.parts) == calls else names[-1]
            raise _silent(name, self.options.in_training_branch)

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured = self.head.partition.read(args, kwargs)
        samples = observe(
            self.head,
            captured,
            batch=self.number,
            seed=self.options.seed,
            with_null=self.with_null,
        )
        if self.check.open:
            self.check.expect(expectation(self.head, captured, captured.call))
        label = None if self.batch is None else self.batch.label
        group = None if self.batch is None else self.batch.group
        for what, column in (("labels", label), ("groups", group)):
            if column is not None and len(column) != len(samples):
                raise InputError(
                    f"there are more or fewer {what} than samples",
                    got=f"{len(column)} {what}, logits of {len(samples)} samples",
                    expected="one for each sample",
                    remedy="yield inputs, labels and groups of one batch together",
                )
        self.found.parts.append(dataclasses.replace(samples, label=label, group=group))
        if self.keep_calls:
            call = mapped((args, kwargs), lambda x: x.detach().cpu().clone())
            saved = SavedCall(call, self.number, label, group, self.with_null)
            self.found.calls.append(saved)


def _silent(name: str, in_training_branch: bool) -> HeadError:
    mode = "its training branch" if in_training_branch else "eval mode"
    return HeadError(
        f"the model ran in {mode} without calling its head {name!r}",
        got="0 calls",
        expected="one call a batch",
        remedy="name a head that the model calls"
        if in_training_branch
        else "many re-identification models call the classifier in training only: audit the "
        "training branch (in_training_branch=True, --training-branch), or name another head",
    )


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
            remedy="name the keys as forward names its arguments, or say with forward= "
            "(--forward) how the model is called with a batch",
        ) from error


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
