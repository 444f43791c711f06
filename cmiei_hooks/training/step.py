"""The road of one training call of the head: capture, estimate, choose, add up, replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from .._torch import in_backward
from ..counterfactual import ChainCheck, expectation, influence_of_linear, measure
from ..functional import KEPT
from ..fusion import Call, Captured, Head
from ..logs import LogRecord, Reporter
from ..settings import Config
from .checkpoint_replay import Done, Replays
from .notices import Notices
from .schedule import Schedule
from .selection import HeadCall, Published, Strategy
from .statistics import Statistics
from .substitution import Noise, refuse_in_place, write_in_place

__all__ = ["Measurement", "Step"]


@dataclass(frozen=True)
class Measurement:
    """The newest estimate, detached, on the device of the head."""

    influence: Tensor
    """float32 ``[B, M]``; NaN in the row of a sample whose logits were not finite."""
    substituted: Tensor
    """int64 ``[B]``: the index of the replaced modality, -1 for a sample that was kept."""


class Step:
    """What happens in each training call of one head, and what is kept from call to call."""

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        config: Config,
        reporter: Reporter,
        strategy: Callable[[Config, Noise], Strategy] = Published,
    ) -> None:
        self.head, self.config, self.reporter = head, config, reporter
        self.schedule = Schedule(config)
        self.noise = Noise(torch.initial_seed() if config.seed is None else config.seed, head.name)
        self.strategy = strategy(config, self.noise)
        self.statistics = Statistics(head.partition.names)
        self.replays = Replays()
        self.notices = Notices(model, head)
        self.chain = ChainCheck(head, model)
        self.last: Measurement | None = None
        self.suspended = False

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Return the new arguments of the head; None leaves the call as it is."""
        if self.chain.refusal is not None:
            raise self.chain.refusal
        if in_backward():
            done = self.replays.recall()
            chosen = None if done is None else done.chosen
            if done is None or chosen is None:
                return None
            return self._replaced(self._captured(args, kwargs), chosen, done.step)
        self.notices.called()
        if self.suspended:
            self.replays.remember(Done(self.schedule.step, None))
            return None
        self.notices.check_epoch(self.schedule)
        step, estimates = self.schedule.advance()
        if not (estimates or self.strategy.every_step or self.chain.open):
            self.replays.remember(Done(step, None))
            return None
        captured = self._captured(args, kwargs)
        chosen = self._choose(captured, step, estimates)
        self.replays.remember(Done(step, chosen))
        new = None if chosen is None else self._replaced(captured, chosen, step)
        if self.chain.open:
            captured = captured if new is None else self._captured(*new)
            self.chain.expect(expectation(self.head, captured, captured.call))
        return new

    def _captured(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
        return self.head.partition.read(args, kwargs)

    def _choose(self, captured: Captured, step: int, estimates: bool) -> Tensor | None:
        """Which modality of which sample is replaced; an estimation step is added up and logged."""
        influence = self._estimate(captured) if estimates else None
        acts = self.schedule.acts
        chosen = None
        if estimates or self.strategy.every_step:
            chosen = self.strategy.choose(HeadCall(step, acts, captured, influence))
        if influence is not None:
            kept = torch.full_like(influence[:, 0], KEPT, dtype=torch.int64)
            substituted = kept if chosen is None else chosen
            self.statistics.add(influence, substituted)
            self.last = Measurement(influence.float(), substituted)
            if self.reporter.due(step):
                self.reporter.emit(self._record(step))
        return chosen

    def _estimate(self, captured: Captured) -> Tensor:
        if self.config.inplace:
            refuse_in_place(captured)
        influence = influence_of_linear(self.head, captured)
        return measure(self.head, captured).influence if influence is None else influence

    def _replaced(self, captured: Captured, chosen: Tensor, step: int) -> Call | None:
        """Replace what was chosen, in the call itself or when it is computed again."""
        tensors = self.strategy.replace(captured, chosen, step)
        if not self.config.inplace:
            return captured.call_with(tensors)
        write_in_place(captured, tensors)
        return None

    def _record(self, step: int) -> LogRecord:
        partition = self.head.partition
        return LogRecord(
            "figures",
            self.head.name,
            partition.names,
            tuple(partition.plain),
            self.config,
            step,
            self.schedule.epoch,
            self.metrics(),
        )

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """See ``Handle.metrics``."""
        self.notices.check_finite(self.statistics)
        return self.statistics.metrics(distributed.sum_over_ranks if reduce else None)

    def begin_epoch(self, epoch: int) -> None:
        """Enter an epoch; a new one begins a new average."""
        if self.schedule.set_epoch(epoch):
            self.notices.epoch_ends(self.statistics, self.chain)
            self.statistics.reset()
        self.notices.epoch_begins()

    def end(self) -> None:
        """Say what has not been said yet, and take the hooks of the chain off."""
        self.notices.training_ends(self.statistics, self.chain)
        self.chain.close()
