"""One training call of the head: capture, estimate, select, record, substitute."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from .._torch import in_backward, load_dynamo, original, transform
from ..counterfactual import (
    BranchCalls,
    ChainCheck,
    OutputCheck,
    Workspace,
    batch_axis_error,
    estimate,
    expectation,
    find_batch_axis,
    influence_of_linear,
    possible_batch_axes,
    refuse_recursion,
)
from ..errors import InputError
from ..functional import KEPT
from ..fusion import (
    Call,
    Captured,
    Head,
    MissingModalityError,
    looks_like_probabilities,
    refuse_cuda_graph,
)
from ..logs import Reporter
from ..settings import Config
from .checkpoint_replay import Done, Replays, in_checkpointed_region, may_be_recomputed
from .journal import Journal
from .notices import Notices
from .presence import Presence
from .schedule import AskEpoch, Schedule, whole
from .selection import HeadCall, Strategy, refuse_misfit_choice, strategy_of
from .substitution import Noise, refuse_in_place, write_in_place

__all__ = ["Measurement", "Step"]


@dataclass(frozen=True)
class Measurement:
    """The newest estimate, detached, on the device of the head."""

    influence: Tensor
    """float32 ``[B, M]``; NaN in the row of a sample whose logits were not finite."""
    substituted: Tensor
    """int64 ``[B]``: the index of the substituted modality, -1 for a sample that was kept. With
    ``SELECTION soft``, which may substitute several modalities of a sample, it is bool ``[B, M]``:
    whether modality m of sample i was substituted."""


_open: weakref.WeakSet[Step] = weakref.WeakSet()
"""The attachments whose closing line is still to come."""


@atexit.register
def _close_all() -> None:
    """Print the closing lines of attachments that nobody removed, when the program ends."""
    for step in list(_open):
        step.end()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_open.clear)  # the lines are those of the parent


@dataclass
class _Shared:
    """What the calls inside one ``same_step()`` share: what was done to the first one."""

    on: bool = False
    done: Done | None = None
    batch: int | None = None
    """The number of samples of the first call."""


class Step:
    """What happens in each training call of one head, and what is kept from call to call."""

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        config: Config,
        reporter: Reporter,
        strategy: Callable[[Config, Noise], Strategy] = strategy_of,
        epoch: AskEpoch | None = None,
    ) -> None:
        load_dynamo()  # the model may be compiled later, and no check is to be traced then
        self.head, self.config = head, config
        self.schedule = Schedule(config, epoch)
        self.noise = Noise(torch.initial_seed() if config.seed is None else config.seed, head.name)
        self.strategy = strategy(config, self.noise)
        self.journal = Journal(head, config, self.schedule, reporter)
        self.replays = Replays()
        self.notices = Notices(model, head)
        self.presence = Presence(head.partition)
        self.chain = ChainCheck(head, model)
        # A compiled model would be compiled once more when the hooks of this check go.
        compiled = any(original(module) is not module for module in model.modules())
        # What the model returns is compared with the logits of branches all the time.
        moot = compiled or head.branches or head.first is original(model)
        self.output = OutputCheck() if moot else OutputCheck(head, model, only_training=True)
        self.branches: BranchCalls | None = None
        if head.branches:
            acts = config.p_max > 0 or not config.sample_level
            self.branches = BranchCalls(head, model, training=True, acts=acts)
        self._probabilities: Tensor | None = None
        self._axis_known = False
        self._workspace = Workspace()
        self.last: Measurement | None = None
        self.suspended = False
        _open.add(self)
        self._shared = _Shared()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Return the new arguments of the head; None leaves the call as it is."""
        if (kind := transform()) is not None:
            self.notices.called_in_transform(kind)
            return None
        refuse_recursion(self.head)
        # Without CUDA there is no graph, and putting the name together takes a while.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # no types in torch
            refuse_cuda_graph(self.head.name)
        if self.chain.refusal is not None:
            raise self.chain.refusal
        if in_backward():
            return self._repeated(args, kwargs, self.replays.recall())
        if not torch.is_grad_enabled() and not in_checkpointed_region():
            self.notices.called_without_gradient()  # not training: update_bn, feature extraction
            return None
        self.notices.called()
        if self.suspended:
            self.replays.remember(Done(self.schedule.step, None))
            return None
        if self._shared.on:
            self._check_samples(args, kwargs)
        if self._shared.done is not None:
            self.replays.remember(self._shared.done)
            return self._repeated(args, kwargs, self._shared.done)
        if self.schedule.ask is not None and (epoch := self.schedule.asked) is not None:
            self.begin_epoch(epoch)
        self.notices.check_epoch(self.schedule)
        if self.output.result is not None:
            self.notices.check_output(self.output.result, self.output.encoders)
        return self._advance(args, kwargs)

    def _advance(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Make one step: count it, and estimate, select and substitute where it is due."""
        step, estimates = self.schedule.advance()
        if not (estimates or self.strategy.every_step or self.chain.open):
            if self._shared.on or may_be_recomputed():  # else nobody asks for it
                self._remember(Done(step, None))
            return None
        captured = self._read(args, kwargs)
        if captured is None:
            self.journal.skipped += estimates
            self._remember(Done(step, None))
            return None
        if self.branches is not None:
            self.branches.check(captured)
        chosen = self._choose(captured, step, estimates)
        self._remember(Done(step, chosen))
        new = None if chosen is None else self._substituted(captured, chosen, step)
        if self.chain.open:
            captured = captured if new is None else self.head.partition.read(*new)
            self.chain.expect(expectation(self.head, captured, captured.call))
        return new

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured | None:
        """The modalities of a call; None if its batch lacks one.

        Raises:
            InputError: the modalities are not there and never were; or one is missing with SYNC.
        """
        found = self.presence.read(args, kwargs)
        if not isinstance(found, MissingModalityError):
            return found
        if self.config.sync and distributed.active():
            raise InputError(
                "SYNC: the batch of this rank lacks a modality, and the other ranks wait for it",
                got=f"{found.problem} ({found.got})",
                expected="every modality in every batch",
                remedy="leave SYNC False: each rank then skips its own incomplete batches",
            )
        self.notices.modality_missing(found)
        return None

    def _repeated(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done | None
    ) -> Call | None:
        """Do again what was done to an earlier call: in its recompute, or in the same step."""
        if done is None or done.chosen is None:
            return None
        captured = self._read(args, kwargs)
        if captured is None:
            return None
        return self._substituted(captured, done.chosen, done.step)

    def _check_samples(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compare the batch with that of the first call of the step, in every phase of training.

        Raises:
            InputError: it has another size.
        """
        captured, shared = self._read(args, kwargs), self._shared
        if captured is not None and captured.batch != (shared.batch or captured.batch):
            raise InputError(
                "the calls of one step have batches of different sizes",
                got=f"{captured.batch} samples after {shared.batch}",
                expected="the same samples in every call inside same_step()",
                remedy="leave the calls with other samples outside the with block",
            )
        shared.batch = shared.batch if captured is None else captured.batch

    def _remember(self, done: Done) -> None:
        """Keep what is done to this call for a recompute, and for the calls of the same step."""
        self.replays.remember(done)
        if self._shared.on:
            self._shared.done = done

    @contextmanager
    def same_step(self) -> Iterator[None]:
        """See ``Handle.same_step``."""
        before, self._shared = self._shared, self._shared if self._shared.on else _Shared(True)
        try:
            yield
        finally:
            self._shared = before

    def _choose(self, captured: Captured, step: int, estimates: bool) -> Tensor | None:
        """Which modality of which sample is substituted. An estimation step is recorded, too."""
        influence = self._estimate(captured) if estimates else None
        acts = self.schedule.acts(step)
        chosen = None
        if estimates or self.strategy.every_step:
            call = HeadCall(step, acts, captured, influence, self.head)
            chosen = self.strategy.choose(call)
            if chosen is not None:
                refuse_misfit_choice(chosen, captured)
        if influence is not None:
            substituted = self._kept(influence) if chosen is None else chosen
            self.notices.check_head()
            if acts or self.config.drop == "mean":
                self.notices.check_batch(captured.batch, self.config)
            self.last = Measurement(influence.float(), substituted)
            if self.journal.add(step, influence, substituted, acts):
                self._check_values()
        return chosen

    def _kept(self, influence: Tensor) -> Tensor:
        """The selection in which every sample keeps all its modalities."""
        if self.config.selection == "soft":
            return torch.zeros_like(influence, dtype=torch.bool)
        return torch.full_like(influence[:, 0], KEPT, dtype=torch.int64)

    def _estimate(self, captured: Captured) -> Tensor:
        if self.config.inplace:
            refuse_in_place(captured)
        influence = influence_of_linear(self.head, captured, self._workspace)
        if influence is not None:  # of a Linear: logits
            return influence
        found = estimate(self.head, captured)
        self._check_batch_axis(captured)
        if self._probabilities is None and captured.batch > 1:
            self._probabilities = looks_like_probabilities(found.logits)
        return found.influence

    def _check_batch_axis(self, captured: Captured) -> None:
        """Refuse, in the first estimate, a batch on another axis than the first."""
        known, self._axis_known = self._axis_known, True
        # Of several ranks each must run the head equally often: it may wait for the others.
        if known or not possible_batch_axes(captured) or distributed.active():
            return
        axis = find_batch_axis(self.head, captured)
        if axis:
            raise batch_axis_error(captured, axis)

    def _substituted(self, captured: Captured, chosen: Tensor, step: int) -> Call | None:
        """The call with its substitution, which a recompute repeats; None if it is in place."""
        if self.branches is not None:
            replace = partial(self.strategy.replace, chosen=chosen, step=step)
            return self.branches.substituted(captured, chosen, replace)
        tensors = self.strategy.replace(captured, chosen, step)
        if not self.config.inplace:
            return captured.call_with(tensors)
        write_in_place(captured, tensors)
        return None

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """See ``Handle.metrics``."""
        self._check_values()
        return self.journal.metrics(reduce)

    def _check_values(self) -> None:
        """Warn about what only values show; waits for the device."""
        self.notices.check_finite(self.journal.statistics)
        self.notices.check_probabilities(self._probabilities)

    def begin_epoch(self, epoch: float) -> None:
        """Enter an epoch; a new one begins a new average."""
        number = whole(epoch)
        if number != self.schedule.epoch:
            self.notices.epoch_ends(self.journal.statistics, self.chain)
            self.journal.end_epoch()
        self.schedule.enter(number)
        self.notices.epoch_begins()

    def end(self) -> None:
        """Give the warnings that are still due, log the closing line, and close the checks."""
        _open.discard(self)
        try:
            if self.output.result is not None:
                self.notices.check_output(self.output.result, self.output.encoders)
            self.notices.check_probabilities(self._probabilities)
            self.notices.training_ends(self.journal.statistics, self.chain)
            self.journal.close()
        finally:
            self.chain.close()
            self.output.close()
            if self.branches is not None:
                self.branches.close()
