"""attach() and Handle: the life of one attachment."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from ..counterfactual import ChainCheck
from ..errors import ConfigError, HeadError, StateError
from ..fusion import (
    Head,
    Outputs,
    default_names,
    drop_compiled_code,
    locate,
    nested,
    parse_modalities,
    refuse_both,
)
from ..logs import Console, LogRecord, Reporter, Sink
from ..settings import Config, ConfigSource
from .pre_hook import PreHook, active_hooks
from .state import load_state, save_state
from .statistics import metric_names
from .step import Measurement, Pipeline

__all__ = ["Handle", "attach"]


def attach(
    model: nn.Module,
    head: str | Sequence[str] | None = None,
    splits: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    config: ConfigSource = None,
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
        head: name of the fusion head in ``model.named_modules()``, or of several modules that run
            one after the other: captured at the first, logits ``[B, C]`` from the last. What stands
            between them must only pass the tensor on; that is checked in the first step.
        splits: widths of the modalities, in the order of their concatenation, if the first tensor
            argument of the head is their concatenation ``[B, ..., sum(splits)]``.
        names: names of the modalities; default ``r, n, t`` for three, else ``m0, m1, ...``.
        modalities: instead of ``splits`` and ``names``, where each modality is in the arguments of
            the head: ``{name: place}`` or ``{name: [place, ...]}``. A place is an argument position
            or an index of a list argument (``0``), a keyword or a key of a dict argument
            (``"rgb"``), or a block ``(start, stop)`` of the first tensor on ``dim``. It wins over
            ``SPLITS`` of a configuration.
        dim: the axis on which the modalities are concatenated.
        output: which part of the head's return value is the logits: an index, a key, a function;
            for a chain one for the last link, or a list with one for each link.
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
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    refuse_both(splits, modalities)
    sinks = _sinks(log)
    if not resolved.enabled:
        return _disabled(resolved, sinks, modalities)
    _refuse_idle(resolved)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    _refuse_second(model, where)
    reporter = Reporter(sinks, resolved.log_period)
    pipeline = Pipeline(model, where, resolved, reporter)
    drop_compiled_code(model)
    reporter.emit(pipeline.record("start"))  # before anything is registered: a logger may raise
    return Handle(resolved, where.partition.names, pipeline, model)


def _refuse_idle(config: Config) -> None:
    acts_from = config.first_epoch + config.warmup_epochs
    if config.end_epoch is not None and config.end_epoch <= acts_from:
        raise ConfigError(
            "END_EPOCH leaves no epoch in which anything is substituted",
            got=f"END_EPOCH {config.end_epoch}, FIRST_EPOCH {config.first_epoch}, "
            f"WARMUP_EPOCHS {config.warmup_epochs}",
            expected=f"END_EPOCH > {acts_from} (FIRST_EPOCH + WARMUP_EPOCHS)",
            remedy="raise END_EPOCH, or set P_MAX 0 to measure without substituting",
        )


def _refuse_second(model: nn.Module, head: Head) -> None:
    """One attachment for each head, and none inside another: the inner one would count re-runs."""
    for path, hook in active_hooks(model):
        for name, link in zip(head.names, head.links, strict=True):
            if any(link is other for other in hook.links):
                problem = f"C-MIEI is already attached to the head {name!r}"
            elif any(nested(link, other) for other in hook.links):
                problem = f"the head {name!r} and {path!r}, where C-MIEI is attached, are nested"
            else:
                continue
            raise HeadError(
                problem,
                got=f"an attachment to {path!r}",
                expected="one attachment for each head",
                remedy="call remove() on the first handle, or keep using it",
            )


def _sinks(log: bool | Sink | Sequence[Sink]) -> list[Sink]:
    if isinstance(log, bool):
        return [Console()] if log else []
    several = isinstance(log, Sequence) and not isinstance(log, str)
    sinks: list[Any] = list(log) if several else [log]  # type: ignore[arg-type]  # narrowed above
    for sink in sinks:
        if not callable(sink) or inspect.isclass(sink):
            to_file = f"to write a file: JSONLines({sink!r})" if isinstance(sink, str) else ""
            raise ConfigError(
                "a logger cannot be called with a record",
                got=repr(sink),
                expected="log=True, False, a callable that takes a LogRecord, or a list of them",
                remedy=to_file or "make an instance, such as Console() or Scalars(writer)",
            )
    return sinks


def _disabled(config: Config, sinks: Sequence[Sink], modalities: object) -> Handle:
    splits = config.splits or ()
    names = config.names or default_names(len(splits))
    if modalities is not None:
        names, splits = parse_modalities(modalities)[0], ()
    links = (config.head,) if isinstance(config.head, str) else config.head or ()
    record = LogRecord("disabled", " -> ".join(links), names, splits, config)
    Reporter(sinks, config.log_period).emit(record)
    return Handle(config, names, None)


class Handle:
    """One attachment. Use it as a context manager, or call ``remove()`` at the end.

    Made by ``attach``. With ``ENABLED False`` it is inert: it measures nothing and can be used in
    the same way.
    """

    def __init__(
        self,
        config: Config,
        names: tuple[str, ...],
        pipeline: Pipeline | None,
        model: nn.Module | None = None,
    ) -> None:
        self._config, self._names, self._pipeline = config, names, pipeline
        self._pre_hook = PreHook(pipeline)
        self._hook: RemovableHandle | None = None
        if pipeline is not None:
            first = pipeline.head.first
            self._hook = first.register_forward_pre_hook(self._pre_hook, with_kwargs=True)
            pipeline.chain = ChainCheck(pipeline.head, model)

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
        if self._pipeline is not None:
            self._pipeline.begin_epoch(epoch)

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """``C_MIEI_Ratio, CI_<name>, ..., Hist_<name>, ...``, averaged over the estimation steps
        since the last epoch began; NaN before the first. Waits for the device.

        Args:
            reduce: average over all ranks, weighted by samples; then every rank must call it.
        """
        if self._pipeline is not None:
            return self._pipeline.metrics(reduce)
        return dict.fromkeys(metric_names(self._names), math.nan)

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
            self._pre_hook.stop()
            self._hook = None
            self._pipeline.end()

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
        if self._pipeline is None:
            return "<Handle disabled: ENABLED is False, nothing is attached>"
        state = "attached to" if self._hook is not None else "removed from"
        head = self._pipeline.head.name
        return f"<Handle {state} {head!r}, epoch {self.epoch}, step {self.step}>"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain tensors, numbers and strings (``weights_only=True``)."""
        return save_state(self._live("saved"))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken: step, epoch, noise and figures.

        Raises:
            StateError: it is not such a state, or was taken with another head, names, splits or
                SEED. Then nothing is changed.
        """
        load_state(self._live("loaded"), state)

    def _live(self, verb: str) -> Pipeline:
        if self._pipeline is None:
            raise StateError(
                f"an inert handle has no state to be {verb}",
                got="ENABLED False",
                expected="an attached handle",
                remedy="save and load the state only if handle.config.enabled",
            )
        return self._pipeline
