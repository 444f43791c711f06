"""attach() and Handle: the life of one attachment."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from .config import Config
from .console import Console
from .errors import ConfigError, HeadError, StateError
from .head import Output, locate
from .hook import Measurement, Pipeline, PreHook
from .log import LogRecord, Reporter, Sink
from .partition import default_names

__all__ = ["Handle", "attach"]

_STATE_VERSION = 1


def attach(
    model: nn.Module,
    head: str | None = None,
    splits: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    dim: int = -1,
    output: Output = None,
    config: Config | str | os.PathLike[str] | Mapping[str, Any] | object | None = None,
    log: bool | Sink | Sequence[Sink] = True,
    **settings: Any,
) -> Handle:
    """Attach C-MIEI to the fusion head of an unmodified model, as a forward pre-hook.

    On every K-th training-mode call of the head the influence of each modality is measured (the
    head is run again without it, the backbone is not); after the warm-up, samples that one modality
    dominates get that modality's features replaced by the batch mean plus noise, in this call only.
    In eval mode nothing happens.

    Args:
        model: any module; DDP and compiled models too.
        head: name of the fusion head in ``model.named_modules()``; its first tensor argument is the
            concatenated features ``[B, ..., sum(splits)]`` and it returns logits ``[B, C]``.
        splits: widths of the modalities, in the order of their concatenation.
        names: names of the modalities; default ``r, n, t`` for three, else ``m0, m1, ...``.
        dim: the axis on which the modalities are concatenated.
        output: which part of the head's return value is the logits: an index, a key, a function.
        config: a Config or anything that ``Config.load`` takes. Without it the tool is enabled;
            with it, it obeys ``ENABLED`` (False: nothing at all is registered). Its ``HEAD``,
            ``SPLITS`` and ``NAMES`` stand in for arguments that are not given.
        log: True: the rich console logger; False: nothing; or one or several callables that take a
            ``LogRecord`` (``JSONLines``, ``Scalars``, ``StandardLogging``, your own).
        **settings: any field of Config by its lower-case name (``k=1, sigma=0.1``); they win.

    Returns:
        The Handle: tell it the epoch, ask it for the metrics, remove it.

    Raises:
        CMIEIError: anything that can be known to be wrong now; never later what can be said here.
    """
    base = Config(enabled=True) if config is None else Config.load(config)
    given = {"head": head, "splits": splits, "names": names}
    settings |= {key: value for key, value in given.items() if value is not None}
    resolved = base.override(**settings)
    sinks = _sinks(log)
    if not resolved.enabled:
        return _disabled(resolved, sinks)
    name, module, partition = locate(model, resolved, dim)
    if any(isinstance(h, PreHook) and h.active for h in module._forward_pre_hooks.values()):
        raise HeadError(
            f"C-MIEI is already attached to the head {name!r}",
            expected="one attachment for each head",
            remedy="call remove() on the first handle, or keep using it",
        )
    reporter = Reporter(sinks, resolved.log_period)
    pipeline = Pipeline(module, name, partition, output, resolved, reporter)
    handle = Handle(resolved, partition.names, pipeline)
    reporter.emit(pipeline.record("start"))
    return handle


def _sinks(log: bool | Sink | Sequence[Sink]) -> list[Sink]:
    if isinstance(log, bool):
        return [Console()] if log else []
    sinks = [log] if callable(log) else list(log) if isinstance(log, Sequence) else [log]
    for sink in sinks:
        if not callable(sink):
            raise ConfigError(
                "a logger cannot be called",
                got=repr(sink),
                expected="log=True, False, a callable that takes a LogRecord, or a list of them",
                remedy="wrap a writer that has add_scalar: log=Scalars(writer)",
            )
    return sinks


def _disabled(config: Config, sinks: Sequence[Sink]) -> Handle:
    splits = config.splits or ()
    names = config.names or default_names(len(splits))
    record = LogRecord("disabled", config.head or "", names, splits, config)
    Reporter(sinks, config.log_period).emit(record)
    return Handle(config, names, None)


class Handle:
    """One attachment. Use it as a context manager, or call ``remove()`` at the end.

    Made by ``attach``. With ``ENABLED False`` it is inert: it measures nothing and can be used in
    the same way.
    """

    def __init__(self, config: Config, names: tuple[str, ...], pipeline: Pipeline | None) -> None:
        self._config, self._names, self._pipeline = config, names, pipeline
        self._hook = None
        if pipeline is not None:
            self._hook = pipeline.head.register_forward_pre_hook(
                PreHook(pipeline), with_kwargs=True
            )

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._config

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the modalities."""
        return self._names

    @property
    def step(self) -> int:
        """Training-mode calls of the head so far, which is the number of the next one."""
        return self._pipeline.schedule.step if self._pipeline else 0

    @property
    def epoch(self) -> int:
        """The epoch that was set last; ``FIRST_EPOCH`` before that."""
        return self._pipeline.schedule.epoch if self._pipeline else self._config.first_epoch

    @property
    def last(self) -> Measurement | None:
        """The newest measurement; None before the first."""
        return self._pipeline.last if self._pipeline else None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, as with ``DistributedSampler.set_epoch``; it ends the warm-up.

        A new epoch begins a new average in ``metrics()``.

        Raises:
            ConfigError: the epoch is not an integer >= 0.
        """
        if self._pipeline is not None and self._pipeline.schedule.set_epoch(epoch):
            self._pipeline.check_finite()
            self._pipeline.statistics.reset()

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """``C_MIEI_Ratio, CI_<name>, ..., Hist_<name>, ...``, averaged over the samples that were
        measured since the last epoch began; NaN before the first. Waits for the device.

        Args:
            reduce: average over all ranks, weighted by samples; then every rank must call it.
        """
        if self._pipeline is not None:
            return self._pipeline.metrics(reduce)
        keys = [f"{key}_{name}" for key in ("CI", "Hist") for name in self._names]
        return dict.fromkeys(["C_MIEI_Ratio", *keys], math.nan)

    @property
    def non_finite(self) -> int:
        """Samples left out so far: their logits were NaN or infinite. Waits for the device."""
        return self._pipeline.statistics.left_out if self._pipeline else 0

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Inside, the hook passes everything through: nothing measured, substituted or counted."""
        if self._pipeline is None:
            yield
            return
        before, self._pipeline.suspended = self._pipeline.suspended, True
        try:
            yield
        finally:
            self._pipeline.suspended = before

    def remove(self) -> None:
        """Take the hook off; the figures stay readable. May be called again."""
        if self._hook is not None and self._pipeline is not None:
            self._hook.remove()
            self._hook = None
            self._pipeline.check_finite()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        where = self._pipeline.head_name if self._pipeline else "nothing"
        state = "attached to" if self._hook is not None else "not attached; was on"
        return f"<Handle {state} {where!r}, epoch {self.epoch}, step {self.step}>"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain tensors, numbers and strings (``weights_only=True``)."""
        pipeline = self._live("saved")
        return {
            "version": _STATE_VERSION,
            "head": pipeline.head_name,
            "names": list(pipeline.partition.names),
            "splits": list(pipeline.partition.splits),
            "seed": pipeline.seed,
            "step": pipeline.schedule.step,
            "epoch": pipeline.schedule.epoch,
            "epoch_was_set": pipeline.schedule.epoch_was_set,
            "next_log_step": pipeline.reporter.next_step,
            **pipeline.statistics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken: step, epoch, noise and figures.

        Raises:
            StateError: keys are missing, or it was taken with another head, names or splits.
        """
        pipeline = self._live("loaded")
        mine = self.state_dict()
        missing = sorted(mine.keys() - state.keys())
        if missing:
            raise StateError(
                "the state is incomplete",
                got=", ".join(map(str, state)) or "nothing",
                expected=f"also {', '.join(missing)}",
                remedy="load what Handle.state_dict() returned",
            )
        other = [k for k in ("version", "head", "names", "splits") if mine[k] != state[k]]
        if other:
            raise StateError(
                "the state belongs to another attachment",
                got="; ".join(f"{key} {state[key]!r}" for key in other),
                expected="; ".join(f"{key} {mine[key]!r}" for key in other),
                remedy="attach as it was when the state was saved",
            )
        schedule = pipeline.schedule
        schedule.step, schedule.epoch = state["step"], state["epoch"]
        schedule.epoch_was_set = state["epoch_was_set"]
        pipeline.seed, pipeline.reporter.next_step = (
            state["seed"],
            state["next_log_step"],
        )
        sums: dict[str, Tensor] = {key: state[key] for key in ("sums", "left_out")}
        pipeline.statistics.load_state_dict(sums)

    def _live(self, verb: str) -> Pipeline:
        if self._pipeline is None:
            raise StateError(
                f"an inert handle has no state to be {verb}",
                got="ENABLED False",
                expected="True",
            )
        return self._pipeline
