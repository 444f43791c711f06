"""The forward pre-hook: capture, measure, select, substitute, and on to the head."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import distributed
from .config import Config
from .errors import CMIEIWarning, InputError
from .functional import KEPT, batch_mean, blend, select, select_batch
from .head import Output
from .log import LogRecord, Reporter
from .measure import measure
from .partition import Partition, put_back
from .quiet import in_backward, may_be_recomputed
from .replay import Replays
from .schedule import Action, Schedule
from .statistics import Statistics

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
        head: nn.Module,
        head_name: str,
        partition: Partition,
        output: Output,
        config: Config,
        reporter: Reporter,
    ) -> None:
        self.head, self.head_name = head, head_name
        self.partition, self.output, self.config = partition, output, config
        self.schedule = Schedule(config)
        self.statistics = Statistics(partition.names)
        self.reporter = reporter
        self.replays = Replays()
        self.seed = torch.initial_seed() if config.seed is None else config.seed
        self.last: Measurement | None = None
        self.suspended = False
        self._warned: set[str] = set()

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """One call of the head; returns its new arguments, or None to leave them alone."""
        if not self.head.training:
            return None
        if in_backward():
            return self._repeat(args, kwargs)
        if self.suspended:
            return None
        step, action = self.schedule.step, self.schedule.advance()
        self._check_epoch()
        if action is Action.SKIP:
            self._remember(args, kwargs, step, None)
            return None
        chosen = self._measure(args, kwargs, action)
        if self.reporter.due(step):
            self.reporter.emit(self._figures(step))
        if action is Action.MEASURE:
            return None
        self._remember(args, kwargs, step, chosen)
        return self._substitute(args, kwargs, chosen, step)

    def _measure(self, args: tuple[Any, ...], kwargs: dict[str, Any], action: Action) -> Tensor:
        config = self.config
        influence = measure(
            self.head,
            self.partition,
            args,
            kwargs,
            drop=config.drop,
            kind=config.measure,
            output=self.output,
        ).influence
        if action is Action.INTERVENE:
            chosen = self._select(influence)
        else:
            chosen = torch.full_like(influence[:, 0], KEPT, dtype=torch.int64)
        self.statistics.add(influence, chosen)
        self.last = Measurement(influence.float(), chosen)
        return chosen

    def _select(self, influence: Tensor) -> Tensor:
        c = self.config
        if c.sync and not c.sample_level:
            sums = distributed.sum_over_ranks(_finite_sums(influence))
            mean = sums[:-1] / sums[-1].clamp_min(1)
            return select_batch(influence, mean, abs_thr=c.abs_thr, rel_thr=c.rel_thr)
        return select(
            influence,
            abs_thr=c.abs_thr,
            rel_thr=c.rel_thr,
            p_max=c.p_max,
            sample_level=c.sample_level,
        )

    def _substitute(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], chosen: Tensor, step: int
    ) -> Call | None:
        place, features = self.partition.find(args, kwargs)
        generator = self._noise(step, features.device)
        blocks = [
            blend(block, chosen == m, self._prototype(block), self.config.sigma, generator)
            for m, block in enumerate(self.partition.blocks(features))
        ]
        joined = self.partition.join(blocks)
        if not self.config.inplace:
            return put_back(args, kwargs, place, joined)
        _write(features, joined)
        return None

    def _prototype(self, block: Tensor) -> Tensor:
        return batch_mean(block, distributed.sum_over_ranks_with_grad if self.config.sync else None)

    def _noise(self, step: int, device: torch.device) -> torch.Generator:
        """The generator of one step: it depends on nothing but seed, rank, head and step, so that a
        resumed run and a recompute draw the same noise, and ranks and heads different ones.
        """
        words = f"{self.seed} {distributed.rank()} {self.head_name} {step}".encode()
        seed = int.from_bytes(hashlib.blake2b(words, digest_size=4).digest(), "little")
        return torch.Generator(device).manual_seed(seed)

    def _remember(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int, chosen: Tensor | None
    ) -> None:
        if self.schedule.intervenes and may_be_recomputed():
            self.replays.remember(self.partition.find(args, kwargs)[1], step, chosen)

    def _repeat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """In backward: do again exactly what was done to the call that is being recomputed."""
        call = self.replays.recall(self.partition.find(args, kwargs)[1])
        if call is None or call.chosen is None:
            return None
        return self._substitute(args, kwargs, call.chosen, call.step)

    def _figures(self, step: int) -> LogRecord:
        return self.record("figures", step, self.metrics())

    def record(
        self, event: Any, step: int = 0, metrics: dict[str, float] | None = None
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
        sums = self.statistics.sums
        if reduce and distributed.active():
            sums = distributed.sum_over_ranks(sums.to(self.device()))
        return self.statistics.metrics(sums)

    def device(self) -> torch.device:
        """Where the head lives."""
        tensors = [*self.head.parameters(), *self.head.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def check_finite(self) -> None:
        """Warn once of samples that were left out; waits for the device."""
        if "finite" not in self._warned and self.statistics.left_out:
            self._warn(
                "finite",
                f"{self.statistics.left_out} samples had NaN or infinite logits at the head "
                f"{self.head_name!r}; they are never substituted and are kept out of the averages",
            )

    def _check_epoch(self) -> None:
        if not self.schedule.epoch_was_set and self.config.warmup_epochs:
            self._warn(
                "epoch",
                f"handle.set_epoch(epoch) has not been called: the warm-up of "
                f"{self.config.warmup_epochs} epochs will never end and nothing will ever be "
                "substituted. Call it at the start of every epoch, or attach with warmup_epochs=0",
            )

    def _warn(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(message, CMIEIWarning, stacklevel=2)


class PreHook:
    """What is registered on the head. Copies of it (deepcopy, pickle) do nothing."""

    def __init__(self, pipeline: Pipeline | None = None) -> None:
        self.active = pipeline is not None
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
        return None if self._run is None else self._run(args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> PreHook:
        return PreHook()

    def __reduce__(self) -> tuple[type[PreHook], tuple[()]]:
        return PreHook, ()


def _finite_sums(influence: Tensor) -> Tensor:
    """``[M + 1]``: the sums of the finite rows, and how many there are."""
    finite = influence.isfinite().all(-1)
    sums = influence.masked_fill(~finite[:, None], 0).sum(0)
    return torch.cat([sums, finite.sum()[None].to(sums.dtype)])


def _write(features: Tensor, joined: Tensor) -> None:
    """``INPLACE``: every holder of the captured tensor sees the substitution."""
    if saved := _saved_by_its_producer(features):
        raise InputError(
            "INPLACE: autograd needs the captured tensor as it is",
            got=f"the output of {saved}, which keeps it for its backward",
            expected="a tensor that may be written into",
            remedy="leave INPLACE False: the head then gets a new tensor",
        )
    try:
        features.copy_(joined)
    except RuntimeError as error:
        raise InputError(
            "INPLACE: autograd forbids writing into the captured tensor",
            got=str(error).splitlines()[0],
            expected="a tensor that may be written into",
            remedy="leave INPLACE False: the head then gets a new tensor",
        ) from error


def _saved_by_its_producer(features: Tensor) -> str:
    """Name of the operation whose backward needs its own output, such as ReLU; else empty."""
    node = features.grad_fn
    saved = getattr(node, "_saved_result", None)
    if isinstance(saved, Tensor) and saved.data_ptr() == features.data_ptr():
        return type(node).__name__
    return ""
