"""What happens in each call of the head: capture, measure, select, substitute, and on to it."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .. import distributed
from .._torch import in_backward
from ..counterfactual import ChainCheck, expectation, influence_of_linear, measure
from ..errors import CMIEIWarning
from ..functional import KEPT, cap, select, select_batch
from ..fusion import Call, Captured, Head, Path, explain_silence
from ..logs import LogRecord, Reporter
from ..settings import Config
from .checkpoint_replay import Done, Replays
from .schedule import Action, Schedule
from .statistics import Statistics, finite_sums
from .substitution import noise_generator, refuse_in_place, substituted, write_in_place

__all__ = ["Control", "Measurement", "Pipeline"]


@dataclass(frozen=True)
class Measurement:
    """The newest measurement, detached, on the device of the head."""

    influence: Tensor
    """float32 ``[B, M]``; NaN in the row of a sample whose logits were not finite."""
    substituted: Tensor
    """int64 ``[B]``: index of the replaced modality, -1 = kept."""


class Control(Protocol):
    """What a validation puts in the place of the selection, to compare it with."""

    def chosen(self, step: int, captured: Captured) -> Tensor | None:
        """int64 ``[B]``, which modality of which sample; None: nothing in this call."""

    def replaced(self, step: int, captured: Captured, config: Config) -> dict[Path, Tensor]:
        """The tensors of the call with these modalities replaced."""


class Pipeline:
    """The state of one attachment and what happens in each call of its head."""

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        config: Config,
        reporter: Reporter,
    ) -> None:
        self._model = weakref.ref(model)
        self.head, self.config = head, config
        self.schedule = Schedule(config)
        self.statistics = Statistics(head.partition.names)
        self.chain = ChainCheck()
        self.reporter = reporter
        self.replays = Replays()
        self.seed = torch.initial_seed() if config.seed is None else config.seed
        self.last: Measurement | None = None
        self.control: Control | None = None
        self.suspended = False
        self.calls = self.calls_in_epoch = 0
        """Training-mode calls of the head, suspended ones too."""
        self._epoch_begun = False
        self._versions = _versions(model)
        self._warned: set[str] = set()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """One training-mode call of the head; returns its new arguments, or None to leave them."""
        if self.chain.refusal is not None:
            raise self.chain.refusal
        if in_backward():
            return self._apply(args, kwargs, self.replays.recall())
        self.calls += 1
        self.calls_in_epoch += 1
        if self.suspended:
            done = Done(self.schedule.step, None)
        else:
            self._check_epoch()
            done = self._step(args, kwargs)
            if self.control is not None:
                captured = self.head.partition.read(args, kwargs)
                done = Done(done.step, self.control.chosen(done.step, captured))
        self.replays.remember(done)
        new = self._apply(args, kwargs, done)
        if self.chain.open and not self.suspended:
            call = (args, kwargs) if new is None else new
            captured = self.head.partition.read(*call)
            self.chain.expect(expectation(self.head, captured, call))
        return new

    def _step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Done:
        """Count the call; on an estimation step measure, select, add up and log."""
        step, action = self.schedule.step, self.schedule.advance()
        if action is Action.SKIP:
            return Done(step, None)
        c, captured = self.config, self.head.partition.read(args, kwargs)
        if c.inplace:
            refuse_in_place(captured)
        influence = influence_of_linear(self.head, captured)
        if influence is None:
            influence = measure(self.head, captured).influence
        # When the cap lets no sample through, the very same tensor must go on to the head. (With
        # SYNC it must not depend on the size of this rank's batch: the other ranks would wait.)
        within = c.p_max if c.sync else cap(c.p_max, captured.batch)
        acts = action is Action.INTERVENE and bool(within or not c.sample_level)
        kept = torch.full_like(influence[:, 0], KEPT, dtype=torch.int64)
        chosen = self._select(influence) if acts else kept
        self.statistics.add(influence, chosen)
        self.last = Measurement(influence.float(), chosen)
        if self.reporter.due(step):
            self.reporter.emit(self.record("figures", step, self.metrics()))
        return Done(step, chosen if acts else None)

    def _select(self, influence: Tensor) -> Tensor:
        c = self.config
        if c.sync and not c.sample_level:
            mean = self._mean(influence)
            return select_batch(influence, mean, abs_thr=c.abs_thr, rel_thr=c.rel_thr)
        return select(
            influence,
            abs_thr=c.abs_thr,
            rel_thr=c.rel_thr,
            p_max=c.p_max,
            sample_level=c.sample_level,
            usual=self._mean(influence).to(influence.dtype) if c.relative else None,
        )

    def _mean(self, influence: Tensor) -> Tensor:
        """``[M]``, over the batch; with ``SYNC`` over those of all ranks."""
        sums = finite_sums(influence)
        sums = distributed.sum_over_ranks(sums) if self.config.sync else sums
        return sums[:-1] / sums[-1].clamp_min(1)

    def _apply(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done | None
    ) -> Call | None:
        """Substitute what was chosen, in the call itself or in its recompute."""
        if done is None or done.chosen is None:
            return None
        captured = self.head.partition.read(args, kwargs)
        if self.control is not None:
            tensors = self.control.replaced(done.step, captured, self.config)
        else:
            generator = noise_generator(
                captured.device, self.seed, distributed.rank(), self.head.name, done.step
            )
            tensors = substituted(captured, done.chosen, self.config, generator)
        if not self.config.inplace:
            return captured.call_with(tensors)
        write_in_place(captured, tensors)
        return None

    def record(
        self,
        event: Literal["start", "figures"],
        step: int = 0,
        metrics: dict[str, float] | None = None,
    ) -> LogRecord:
        """A record for the loggers."""
        return LogRecord(
            event,
            self.head.name,
            self.head.partition.names,
            tuple(self.head.partition.plain),
            self.config,
            step,
            self.schedule.epoch,
            metrics or {},
        )

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """See ``Handle.metrics``."""
        self.check_finite()
        return self.statistics.metrics(distributed.sum_over_ranks if reduce else None)

    def begin_epoch(self, epoch: int) -> None:
        """Enter an epoch; a new one begins a new average."""
        if self.schedule.set_epoch(epoch):
            if self._epoch_begun and not self.calls_in_epoch:
                self._warn_of_silence()
            self.check_finite()
            self._check_chain()
            self.statistics.reset()
            self.calls_in_epoch = 0
        self._epoch_begun = True

    def end(self) -> None:
        """Warn of what was never said: training that never called the head, samples left out."""
        model = self._model()
        trained = self._epoch_begun or (model is not None and _versions(model) != self._versions)
        if trained and not self.calls:
            self._warn_of_silence()
        self.check_finite()
        self._check_chain()
        self.chain.close()

    def _check_chain(self) -> None:
        if self.chain.missing:
            first, last = self.head.names[0], self.head.names[-1]
            self._warn(
                "chain",
                f"the model called {first!r} without calling {last!r} after it: whether the chain "
                "gives the logits of the model was not seen. Name a chain that the model runs "
                "through in training mode",
            )

    def _warn_of_silence(self) -> None:
        self._warn("called", explain_silence(self.head.names[0], self.head.first, self._model()))

    def check_finite(self) -> None:
        """Warn once of samples that were left out; waits for the device."""
        if "finite" not in self._warned and self.statistics.left_out:
            self._warn(
                "finite",
                f"{self.statistics.left_out} samples had NaN or infinite logits at the head "
                f"{self.head.name!r}; they are never substituted and are kept out of the averages",
            )

    def _check_epoch(self) -> None:
        c = self.config
        if not self.schedule.epoch_was_set and (c.warmup_epochs or c.end_epoch is not None):
            never = "the warm-up will never end" if c.warmup_epochs else "END_EPOCH will never come"
            self._warn(
                "epoch",
                f"handle.set_epoch(epoch) has not been called yet: without it {never}. Call it at "
                "the start of every epoch, or attach with warmup_epochs=0 and no end_epoch",
            )

    def _warn(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(message, CMIEIWarning, stacklevel=2)


def _versions(model: nn.Module) -> int:
    """Changes when an optimizer has written into the parameters."""
    counted = [p for p in model.parameters() if not is_lazy(p) and not p.is_inference()]
    return sum(p._version for p in counted)
