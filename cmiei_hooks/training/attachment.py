"""attach() and Handle: an attachment from its beginning to its end."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import ConfigError, HeadError, StateError
from ..fusion import (
    Head,
    HeadLike,
    Outputs,
    default_names,
    drop_compiled_code,
    head_names,
    locate,
    nested,
    parse_modalities,
    refuse_both,
)
from ..logs import Console, LogRecord, Reporter, Sink
from ..settings import Config, ConfigSource
from .pre_hook import PreHook, active_hooks, strip
from .schedule import AskEpoch
from .selection import Published, Strategy
from .state import load_state, save_state
from .statistics import metric_names
from .step import Measurement, Step
from .substitution import Noise

__all__ = ["Handle", "InertHandle", "attach", "detach"]


def attach(
    model: nn.Module,
    head: HeadLike | None = None,
    splits: Sequence[int | None] | Mapping[str, int | None] | None = None,
    *,
    names: Sequence[str] | None = None,
    epoch: AskEpoch | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    config: ConfigSource = None,
    log: bool | Sink | Sequence[Sink] = True,
    strategy: Callable[[Config, Noise], Strategy] = Published,
    **settings: Any,
) -> Handle:
    """Attach C-MIEI to the fusion head of an unmodified model, as a forward pre-hook.

    On every K-th training call of the head, the influence of each modality is estimated: the head
    is run again without it, the backbone is not. After the warm-up, samples that one modality
    dominates are substituted: in this call only, that modality's features become the batch mean
    plus noise. Nothing happens in eval mode.

    Args:
        model: any module, also one in DDP or compiled.
        head: the fusion head, as its name in ``model.named_modules()`` or as the module itself
            (``model.classifier``); or a list of several modules that run one after the other (a
            chain): captured at the first, logits ``[B, C]`` from the last. Between them the model
            must only pass the tensor on; the first step checks it.
        splits: widths of the modalities, in the order of their concatenation, if the first tensor
            that the head receives (as an argument, or inside of one) is their concatenation
            ``[B, ..., sum(splits)]``: a list, or a dict that names them (``{"audio": 32, "video":
            48}``). One may be None: the rest, for sequences whose width varies.
        names: names of the modalities, if splits is a list; default ``r, n, t`` for three, else
            ``m0, m1, ...``.
        epoch: returns the number of the current epoch, such as ``lambda: epoch`` in a plain loop or
            ``lambda: trainer.current_epoch``; None before the first epoch, and fractions are
            rounded down. It is asked once in each training call. Without it, tell the epochs by
            ``Handle.set_epoch``, or count the warm-up in steps (``warmup_steps=1000``).
        modalities: instead of ``splits`` and ``names``, where each modality is in the arguments of
            the head: ``{name: location}`` or ``{name: [location, ...]}``. A location is an argument
            position or an index of a list argument (``0``), a keyword or a key of a dict argument
            (``"rgb"``), or a block ``(start, stop)`` of the first tensor on ``dim``. It overrides
            ``SPLITS`` of a configuration.
        dim: the axis on which the modalities are concatenated.
        output: which part of the head's return value is the logits: an index, a key, a function;
            for a chain, that of the last link, or a list with one entry for each link.
        config: a Config or anything that ``Config.load`` takes. Without it the tool is enabled;
            with it, it obeys ``ENABLED`` (False: nothing is registered). Its ``HEAD``, ``SPLITS``
            and ``NAMES`` are used where the arguments are not given.
        log: True for the rich console logger, False for none, or one or several callables that take
            a ``LogRecord`` (``JSONLines``, ``Scalars``, ``StandardLogging``, your own).
        strategy: makes a ``Strategy``, which decides what is substituted and by what, from the
            settings and the source of the noise. Only comparisons need another than the default.
        **settings: any field of Config by its lower-case name (``k=1, sigma=0.1``); they win.

    Returns:
        The Handle: tell it the epoch, ask it for the metrics, remove it.

    Raises:
        CMIEIError: whatever can be known to be wrong before the first call.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512, 512], warmup_steps=1000)
        >>> handle = attach(model, head=model.fusion, splits={"audio": 32, "video": 48})
        >>> for epoch in range(epochs):
        ...     handle.set_epoch(epoch)
        ...     train_one_epoch(model, loader)
        >>> handle.remove()
    """
    named = head_names(model, head)
    resolved = Config.resolve(config, settings, head=named, splits=splits, names=names)
    refuse_both(splits, modalities)
    if epoch is not None and not callable(epoch):
        raise ConfigError(
            "epoch= is a function that is asked for the epoch",
            got=repr(epoch),
            expected="a callable without arguments, such as lambda: epoch",
            remedy="to tell a single epoch, call handle.set_epoch(epoch)",
        )
    sinks = _sinks(log)
    if not resolved.enabled:
        return _disabled(resolved, sinks, modalities)
    _refuse_idle(resolved)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    _refuse_second(model, where)
    reporter = Reporter(sinks, resolved.log_period)
    drop_compiled_code(model)
    partition = where.partition
    start = LogRecord("start", where.name, partition.names, tuple(partition.plain), resolved)
    reporter.emit(start)  # before anything is registered: it may be interrupted
    return Handle(Step(model, where, resolved, reporter, strategy, epoch))


def _refuse_idle(config: Config) -> None:
    warmup, end = config.warmup_steps, config.end_step
    if end is not None and warmup is not None and end <= warmup:
        raise ConfigError(
            "END_STEP leaves no step in which anything is substituted",
            got=f"END_STEP {end}, WARMUP_STEPS {warmup}",
            expected=f"END_STEP > {warmup}",
            remedy="raise END_STEP, or set P_MAX 0 to measure without substituting",
        )
    if warmup is not None:
        return
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
    """Refuse a second attachment to a head, and one inside another, which would count re-runs."""
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
    return InertHandle(config, names)


class Handle:
    """One attachment. Use it as a context manager, or call ``remove()`` at the end.

    ``attach`` makes it. A copy of it (``deepcopy``, pickle, ``torch.save`` of a model that holds
    it) is inert, as the copy of the hook is.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._pre_hook = PreHook(step)
        self._hook: RemovableHandle | None = step.head.first.register_forward_pre_hook(
            self._pre_hook, with_kwargs=True
        )

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._step.config

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the modalities."""
        return self._step.head.partition.names

    @property
    def step(self) -> int:
        """The number of training calls of the head so far, which is the number of the next one."""
        return self._step.schedule.step

    @property
    def epoch(self) -> int:
        """The epoch that was set last; ``FIRST_EPOCH`` before that."""
        return self._step.schedule.epoch

    @property
    def last(self) -> Measurement | None:
        """The newest estimate; None before the first."""
        return self._step.last

    def set_epoch(self, epoch: float) -> None:
        """Say which epoch begins, as with ``DistributedSampler.set_epoch``; it ends the warm-up.

        A new epoch begins a new average in ``metrics()``.

        Raises:
            ConfigError: the epoch is not a whole number >= 0, or this handle asks for the epoch
                itself (``attach(..., epoch=...)``).
        """
        if self._step.schedule.ask is not None:
            raise ConfigError(
                "this handle asks for the epoch itself",
                got=f"set_epoch({epoch!r}) after attach(..., epoch=...)",
                expected="one way to tell the epoch",
                remedy="leave out either set_epoch or epoch=",
            )
        self._step.begin_epoch(epoch)

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """``C_MIEI_Ratio, CI_<name>, ..., Hist_<name>, ...``, averaged over the estimation steps
        since the last epoch began; NaN before the first. Waits for the device.

        Args:
            reduce: average over all ranks, weighted by samples; every rank must then call it.
        """
        return self._step.metrics(reduce)

    @property
    def non_finite(self) -> int:
        """Samples left out so far because their logits were NaN or infinite. Waits for the
        device.
        """
        return self._step.journal.statistics.totals.left_out

    @property
    def skipped(self) -> int:
        """Estimates skipped so far because the batch lacked a modality."""
        return self._step.journal.skipped

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Inside, the hook passes everything through: no estimate, no substitution, no count."""
        before, self._step.suspended = self._step.suspended, True
        try:
            yield
        finally:
            self._step.suspended = before

    def same_step(self) -> AbstractContextManager[None]:
        """Inside, all calls of the head are one step: they share one decision and one noise.

        For training steps that call the head several times on the same samples: SAM, R-Drop, two
        views, closures of L-BFGS. The first call is estimated and decided upon as usual; the calls
        after it get the same substitution with the same noise, and are neither
        estimated nor counted. Leave the context after every training step.

        Raises:
            InputError: a later call has another number of samples.

        Example:
            >>> with handle.same_step():
            ...     loss = criterion(model(x), y) + consistency(model(x), model(x))
        """
        return self._step.same_step()

    def remove(self) -> None:
        """Take the hook off; the metrics stay readable. It may be called again."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            self._pre_hook.end()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *reason: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "attached to" if self._pre_hook.links else "removed from"
        return f"<Handle {state} {self._step.head.name!r}, epoch {self.epoch}, step {self.step}>"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain tensors, numbers and strings (``weights_only=True``)."""
        return save_state(self._step)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken: step, epoch, noise and averages.

        Raises:
            StateError: it is not such a state, or was taken with another head, names, splits or
                SEED. Nothing is changed then.
        """
        load_state(self._step, state)

    def __deepcopy__(self, memo: dict[int, Any]) -> InertHandle:
        return self._copy()

    def __reduce__(self) -> tuple[type[InertHandle], tuple[Config, tuple[str, ...]]]:
        return InertHandle, (self._copy().config, self.names)

    def _copy(self) -> InertHandle:
        return InertHandle(self.config.override(enabled=False), self.names)


class InertHandle(Handle):
    """A Handle that is attached to nothing: with ``ENABLED False``, or a copy of one."""

    def __init__(self, config: Config, names: tuple[str, ...]) -> None:
        self._config, self._names = config, names

    config = property(lambda self: self._config, doc="The settings.")
    names = property(lambda self: self._names, doc="The names of the modalities.")
    step = property(lambda self: 0, doc="Always 0.")
    epoch = property(lambda self: self._config.first_epoch, doc="Always ``FIRST_EPOCH``.")
    last = property(lambda self: None, doc="Always None.")
    non_finite = property(lambda self: 0, doc="Always 0.")
    skipped = property(lambda self: 0, doc="Always 0.")

    def set_epoch(self, epoch: float) -> None:
        """Do nothing."""

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """Return NaN for every metric."""
        return dict.fromkeys(metric_names(self._names), math.nan)

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def same_step(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def remove(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "<InertHandle: ENABLED is False or this is a copy, nothing is attached>"

    def state_dict(self) -> dict[str, Any]:
        """Refuse: there is no state.

        Raises:
            StateError: always.
        """
        raise _no_state("saved")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse: there is no state.

        Raises:
            StateError: always.
        """
        raise _no_state("loaded")


def detach(model: nn.Module) -> None:
    """Take every trace of this package off a model: attachments, and what copies of one keep.

    A copy of an attached model (``deepcopy``, EMA, quantisation, ``torch.save(model)``) has hooks
    that do nothing, and can be loaded only where this package is installed. After ``detach`` it is
    a model like any other. Attachments that are still active end, as by ``Handle.remove``;
    attributes of modules that hold a Handle are deleted.

    Example:
        >>> clean = copy.deepcopy(model)
        >>> cmiei_hooks.detach(clean)
        >>> torch.save(clean, "model.pt")
    """
    strip(model)
    for module in model.modules():
        for name in [name for name, value in vars(module).items() if isinstance(value, Handle)]:
            delattr(module, name)


def _no_state(verb: str) -> StateError:
    return StateError(
        f"an inert handle has no state to be {verb}",
        got="a handle that is attached to nothing (ENABLED False, or a copy)",
        expected="an attached handle",
        remedy="save and load the state only if handle.config.enabled",
    )
