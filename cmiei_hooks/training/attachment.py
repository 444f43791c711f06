"""``attach``: find the head, refuse what cannot work, and register the hook; and ``detach``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError, HeadError
from ..fusion import (
    Combine,
    Head,
    HeadLike,
    Outputs,
    default_names,
    drop_compiled_code,
    head_names,
    locate,
    nested,
    parse_modalities,
)
from ..logs import LogRecord, LogTo, Reporter, Sink, sinks_of
from ..settings import Config, ConfigSource, refuse_both, without_effect
from .handle import Handle, InertHandle
from .pre_hook import active_hooks, strip
from .schedule import AskEpoch
from .selection import Strategy, strategy_of
from .step import Step
from .substitution import Noise

__all__ = ["attach", "detach"]


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
    combine: Combine | None = None,
    config: ConfigSource = None,
    log: LogTo = True,
    strategy: Callable[[Config, Noise], Strategy] = strategy_of,
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
            chain): captured at the first, logits ``[B, C]`` from the last. Functions may stand
            between them (``["l1", torch.relu, "l2"]``). Otherwise the model must only pass the
            tensor on between them; the first step checks it. Where each modality has logits of its
            own, which the model combines: a dict of the modalities and the modules that give these
            logits, the branches (``{"rgb": "clf_rgb", "depth": "clf_depth"}``), with ``combine``;
            nothing else says then where the modalities are.
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
            (``"rgb"``), a path into an argument (``"text.0"``), or a block ``(start, stop)`` of the
            first tensor on ``dim``. It overrides ``SPLITS`` of a configuration. For token ids, name
            their pad id as well: ``fill={"text": 0}``.
        dim: the axis on which the modalities are concatenated.
        output: which part of the head's return value is the logits: an index, a key, a function,
            or a list of indices and keys that leads inwards; for a chain, that of the last link, or
            a list with one entry for each link; for branches, that of each branch, or a list with
            one entry for each.
        combine: how the model combines the logits of its branches: ``"sum"``, ``"mean"``, or a
            function of the list of them, in the order of ``head``. The first step compares it with
            what the model returns.
        config: a Config or anything that ``Config.load`` takes. Without it the tool is enabled;
            with it, it obeys ``ENABLED`` (False: nothing is registered). Its ``HEAD``, ``SPLITS``
            and ``NAMES`` are used where the arguments are not given.
        log: True for the rich console logger, False for none, or one or several callables that take
            a ``LogRecord`` (``JSONLines``, ``Scalars``, ``Metrics``, ``StandardLogging``, or your
            own).
        strategy: makes a ``Strategy``, which decides what is substituted and by what, from the
            settings and the source of the noise. Only comparisons need another than the default.
        **settings: any field of Config by its lower-case name (``k=1, sigma=0.1``); they win.
            ``preset="selfpaced"`` sets several at once; ``"published"``, the default, is the
            method as published.

    Returns:
        The Handle: tell it the epoch, ask it for the metrics, remove it.

    Raises:
        CMIEIError: whatever can be known to be wrong before the first call.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512, 512], warmup_steps=1000)
        >>> handle = attach(model, head=model.fusion, splits={"audio": 32, "video": 48})
        >>> handle = attach(model, head={"rgb": "clf_rgb", "depth": "clf_depth"}, combine="mean")
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
    sinks = sinks_of(log)
    if not resolved.enabled:
        return _disabled(resolved, sinks, modalities)
    resolved.refuse_endless()
    _refuse_idle(resolved)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output, combine=combine)
    _refuse_in_place(where, resolved)
    _refuse_second(model, where)
    reporter = Reporter(sinks, resolved.log_period)
    drop_compiled_code(model)
    partition = where.partition
    start = LogRecord("start", where.name, partition.names, tuple(partition.plain), resolved)
    reporter.emit(start)  # before anything is registered: it may be interrupted
    return Handle(Step(model, where, resolved, reporter, strategy, epoch))


def _refuse_idle(config: Config) -> None:
    if "end_epoch" in without_effect(config):
        return  # it only measures
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


def _refuse_in_place(head: Head, config: Config) -> None:
    if head.branches and config.inplace:
        raise ConfigError(
            "INPLACE is not possible where the logits of branches are combined",
            got=f"INPLACE True, head {head.name}",
            expected="INPLACE False: when it is known what is substituted, the branches have run",
            remedy="leave INPLACE out",
        )


def _refuse_second(model: nn.Module, head: Head) -> None:
    """Refuse a second attachment to a head, and one inside another, which would count re-runs."""
    for path, hook in active_hooks(model):
        for name, link in head.modules:
            if _is_between(link, head) and link not in hook.modules[:1]:
                continue
            if any(link is other for other in hook.modules):
                problem = f"C-MIEI is already attached to the head {name!r}"
            elif any(nested(link, other) for other in hook.modules):
                problem = f"the head {name!r} and {path!r}, where C-MIEI is attached, are nested"
            else:
                continue
            raise HeadError(
                problem,
                got=f"an attachment to {path!r}",
                expected="one attachment for each head",
                remedy="call remove() on the first handle, or keep using it",
            )


def _is_between(link: nn.Module, head: Head) -> bool:
    """Whether it is a step without state in a chain, such as a ReLU that many parts share."""
    state = (link.parameters(), link.buffers(), link.children())
    return link is not head.first and not any(True for one in state for _ in one)


def _disabled(config: Config, sinks: list[Sink], modalities: object) -> Handle:
    splits = config.splits or ()
    names = config.names or default_names(len(splits))
    if modalities is not None:
        names, splits = parse_modalities(modalities)[0], ()
    head = config.head or ()
    if isinstance(head, Mapping):
        names, head = tuple(head), tuple(head.values())
    links = (head,) if isinstance(head, str) else head
    record = LogRecord("disabled", " -> ".join(links), names, splits, config)
    Reporter(sinks, config.log_period).emit(record)
    return InertHandle(config, names)


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
