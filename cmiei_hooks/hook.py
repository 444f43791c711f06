"""The forward pre-hook: capture, measure, select, substitute, and on to the head."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from . import distributed
from .bypass import explain_silence, refuse_replica
from .config import Config
from .errors import CMIEIWarning
from .functional import KEPT, cap, select, select_batch
from .head import Output
from .log import LogRecord, Reporter
from .measure import measure
from .partition import Partition, put_back
from .replay import Done, Replays, in_backward
from .schedule import Action, Schedule
from .statistics import Statistics, finite_sums
from .substitution import noise_generator, refuse_in_place, substituted, write_in_place

__all__ = ["Measurement", "Pipeline", "PreHook"]

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Measurement:
    """The newest measurement, detached, on the device of the head."""

    influence: Tensor
    """float32 ``[B, M]``; NaN in the row of a sample whose logits were not finite."""
    substituted: Tensor
    """int64 ``[B]``: index of the replaced modality, -1 = kept."""


class Pipeline:
    """The state of one attachment and what happens in each call of its head."""

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module,
        head_name: str,
        partition: Partition,
        output: Output,
        config: Config,
        reporter: Reporter,
    ) -> None:
        self._model = weakref.ref(model)
        self.head, self.head_name = head, head_name
        self.partition, self.output, self.config = partition, output, config
        self.schedule = Schedule(config)
        self.statistics = Statistics(partition.names)
        self.reporter = reporter
        self.replays = Replays()
        self.seed = torch.initial_seed() if config.seed is None else config.seed
        self.last: Measurement | None = None
        self.suspended = False
        self.calls = self.calls_in_epoch = 0
        """Training-mode calls of the head, suspended ones too."""
        self._epoch_begun = False
        self._versions = _versions(model)
        self._warned: set[str] = set()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """One training-mode call of the head; returns its new arguments, or None to leave them."""
        if in_backward():
            return self._apply(args, kwargs, self.replays.recall())
        self.calls += 1
        self.calls_in_epoch += 1
        if self.suspended:
            done = Done(self.schedule.step, None)
        else:
            self._check_epoch()
            done = self._step(args, kwargs)
        self.replays.remember(done)
        return self._apply(args, kwargs, done)

    def _step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Done:
        """Count the call; on an estimation step measure, select, add up and log."""
        step, action = self.schedule.step, self.schedule.advance()
        if action is Action.SKIP:
            return Done(step, None)
        features = self.partition.find(args, kwargs)[1]
        if self.config.inplace:
            refuse_in_place(features)
        c = self.config
        influence = measure(
            self.head,
            self.partition,
            args,
            kwargs,
            drop=c.drop,
            kind=c.measure,
            output=self.output,
        ).influence
        # When the cap lets no sample through, the very same tensor must go on to the head. (With
        # SYNC it must not depend on the size of this rank's batch: the other ranks would wait.)
        within = c.p_max if c.sync else cap(c.p_max, len(features))
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
            sums = distributed.sum_over_ranks(finite_sums(influence))
            mean = sums[:-1] / sums[-1].clamp_min(1)
            return select_batch(influence, mean, abs_thr=c.abs_thr, rel_thr=c.rel_thr)
        return select(
            influence,
            abs_thr=c.abs_thr,
            rel_thr=c.rel_thr,
            p_max=c.p_max,
            sample_level=c.sample_level,
        )

    def _apply(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done | None
    ) -> Call | None:
        """Substitute what was chosen, in the call itself or in its recompute."""
        if done is None or done.chosen is None:
            return None
        place, features = self.partition.find(args, kwargs)
        generator = noise_generator(
            features.device, self.seed, distributed.rank(), self.head_name, done.step
        )
        joined = substituted(self.partition, features, done.chosen, self.config, generator)
        if not self.config.inplace:
            return put_back(args, kwargs, place, joined)
        write_in_place(features, joined)
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
            self.head_name,
            self.partition.names,
            self.partition.splits,
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

    def _warn_of_silence(self) -> None:
        self._warn("called", explain_silence(self.head_name, self.head, self._model()))

    def check_finite(self) -> None:
        """Warn once of samples that were left out; waits for the device."""
        if "finite" not in self._warned and self.statistics.left_out:
            self._warn(
                "finite",
                f"{self.statistics.left_out} samples had NaN or infinite logits at the head "
                f"{self.head_name!r}; they are never substituted and are kept out of the averages",
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


class PreHook:
    """What is registered on the head. Copies of it (deepcopy, pickle) do nothing."""

    def __init__(self, pipeline: Pipeline | None = None) -> None:
        self._pipeline = pipeline
        self.paused = False
        """During a dry run the hook does nothing."""
        # Dynamo must not trace the pipeline: one graph break in front of the head. (Disabling
        # imports Dynamo, which is slow; hence here and not when this module is imported.)
        self._run: Callable[..., Call | None] | None = (
            torch.compiler.disable(pipeline)  # type: ignore[no-untyped-call]  # no types in torch
            if pipeline is not None
            else None
        )

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | None:
        """The signature of a forward pre-hook registered with ``with_kwargs=True``."""
        # Here and not in the pipeline: in eval mode there is no graph break either.
        if not module.training or self.paused or self._run is None or self._pipeline is None:
            return None
        refuse_replica(module, self._pipeline.head)
        return self._run(args, kwargs)

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return self._pipeline is not None

    def stop(self) -> None:
        """Do nothing from now on: compiled code may go on calling a hook that was removed."""
        self._pipeline = self._run = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PreHook:
        return PreHook()

    def __reduce__(self) -> tuple[type[PreHook], tuple[()]]:
        return PreHook, ()
