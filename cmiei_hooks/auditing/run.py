"""Run an audit of one model or of several checkpoints: load, collect, gather, report."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.data.distributed import DistributedSampler

from ..distributed import gather_objects, rank
from ..errors import CMIEIError, InputError
from ..fusion import Head
from ..reporting import git_state, today, versions
from ..settings import Config
from .bootstrap import Interval
from .build_report import build_report
from .checkpoint_loading import load_checkpoint
from .collect import collect, collect_again, device_of
from .collected import Collected
from .notes import notes_of
from .offloaded import load_weights, offloaded_weights
from .options import AuditOptions
from .report import AuditReport
from .samples import together
from .saved_calls import load_calls, origin_of, save_calls
from .seeding import seeded

__all__ = ["Outcome", "audit_checkpoints"]

Batches = Callable[[], Any]
"""Returns the batches; what cannot be iterated over is refused."""


@dataclass(frozen=True)
class Outcome:
    """What an audit came to."""

    report: AuditReport | None
    """The report of the last checkpoint that could be measured; None if none could be."""
    error: BaseException | None
    """What ended the audit early; the report is then partial."""

    def complete(self) -> AuditReport:
        """The report; what ended the audit early is raised."""
        if self.error is not None or self.report is None:
            raise self.error or RuntimeError("nothing was measured")
        return self.report


def audit_checkpoints(
    model: nn.Module,
    batches: Batches,
    head: Head,
    config: Config,
    options: AuditOptions,
    checkpoints: Sequence[str] = (),
) -> Outcome:
    """Audit one checkpoint after the other, or the model as it is.

    Every checkpoint starts from the weights that the model has now, and from the same seed.
    Afterwards the model has these weights again, and the global generators are as before.

    Args:
        model: the model that contains the head.
        batches: returns the batches; called once for each checkpoint.
        head: where to observe.
        config: the settings.
        options: how the model is run.
        checkpoints: files of weights; none: the model as it is.

    Raises:
        CMIEIError: nothing can be measured. An error after that is part of the outcome.
    """
    if len(checkpoints) > 1 and (options.features or options.save_features):
        raise InputError(
            "saved features belong to one checkpoint",
            got=f"{len(checkpoints)} checkpoints",
            expected="one checkpoint with features= or save_features=",
            remedy="audit the checkpoints one by one, or without saved features",
        )
    paths: Sequence[str | None] = checkpoints or (None,)
    measured: list[AuditReport] = []
    found = Collected()
    with _weights_kept(model) if checkpoints else contextlib.nullcontext(_nothing) as put_back:
        for path in paths:
            put_back()  # nothing of the checkpoint before is left
            try:
                report, found = _audit(model, batches, head, config, options, path)
            except (CMIEIError, KeyboardInterrupt) as error:
                if not measured:
                    raise
                report, found = None, dataclasses.replace(found, error=error)
            if report is not None:
                measured.append(report)
            if found.error is not None:
                break
    if not measured:
        return Outcome(None, found.error)
    report = dataclasses.replace(
        measured[-1],
        partial=found.error is not None,
        trend=tuple(map(_point, measured)) if len(paths) > 1 else (),
        environment=_environment(model, config, options, found),
    )
    return Outcome(report, found.error)


@contextmanager
def _weights_kept(model: nn.Module) -> Iterator[Callable[[], object]]:
    """Yields a function that puts back the weights of now; at the end it is called once more."""
    initial = copy.deepcopy(model.state_dict())
    offloaded = copy.deepcopy(offloaded_weights(model))

    def put_back() -> None:
        model.load_state_dict(initial)
        load_weights(model, offloaded)

    try:
        yield put_back
    finally:
        put_back()


def _nothing() -> None:
    """The model stays as it is."""


def _audit(
    model: nn.Module,
    batches: Batches,
    head: Head,
    config: Config,
    options: AuditOptions,
    path: str | None,
) -> tuple[AuditReport | None, Collected]:
    """Audit one checkpoint: its report (None if nothing was measured), and what was collected."""
    with contextlib.nullcontext() if path is None else seeded(options.seed, device_of(model)):
        loaded = None
        if path is not None:
            loaded = load_checkpoint(
                model, path, [name for name, _ in head.modules], weights=options.weights
            )
        save, features = options.save_features, options.features
        origin = origin_of(model, head, loaded, options) if save or features else {}
        if features is not None:
            calls = _tracked(load_calls(features, origin), path, options)
            found = collect_again(model, calls, head, options)
        else:
            given = batches()
            _refuse_batches(given, options)
            given = _tracked(given, path, options)
            found = collect(model, given, head, options, keep_calls=save is not None)
    found = _gathered(found, options)
    if not found.parts:
        if found.error is None:
            raise _no_batch()
        return None, found
    samples = together(found.parts)
    if found.hidden:
        samples = dataclasses.replace(samples, predicted=None)
    report = build_report(
        head,
        config,
        samples,
        seed=options.seed,
        group=options.columns.group,
        notes=notes_of(found, head, samples),
        vectors=found.vectors,
    )
    if save is not None and found.error is None and options.shard[0] == 0:
        save_calls(save, origin, found.calls)
    return dataclasses.replace(report, checkpoint=loaded), found


def _refuse_batches(batches: object, options: AuditOptions) -> None:
    if not isinstance(batches, Iterable):
        raise InputError(
            "batches cannot be iterated over",
            got=type(batches).__name__,
            expected="batches, such as a DataLoader",
            remedy="pass a list or a loader",
        )
    sampler = getattr(batches, "sampler", None)
    if options.shard[1] > 1 and isinstance(sampler, DistributedSampler):
        raise InputError(
            "the loader already divides its samples among the processes",
            got="a DistributedSampler",
            expected="a loader that yields all batches in every process",
            remedy="use a plain loader: each process measures its share of the batches",
        )


def _no_batch() -> InputError:
    return InputError(
        "there is nothing to measure",
        got="no batch",
        expected="one or more batches",
        remedy="check the loader: an iterator that was used up yields nothing",
    )


def _tracked(batches: Iterable[Any], path: str | None, options: AuditOptions) -> Iterable[Any]:
    console = Console(stderr=True)
    if not (options.progress and console.is_terminal and options.shard[0] == 0):
        return batches
    title = "auditing" if path is None else f"auditing {path}"
    return track(batches, title, total=_length(batches), console=console, transient=True)


def _length(batches: Iterable[Any]) -> int | None:
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader over a dataset without a length
        return None


def _gathered(found: Collected, options: AuditOptions) -> Collected:
    """What all processes have collected."""
    if options.shard[1] == 1:
        return found
    error = found.error
    if error is not None and not isinstance(error, (CMIEIError, KeyboardInterrupt)):
        error = RuntimeError(f"rank {rank()}: {type(error).__name__}: {error}")  # can be pickled
    everyone = gather_objects(dataclasses.replace(found, error=error))
    return Collected(
        [part for one in everyone for part in one.parts],
        sorted((call for one in everyone for call in one.calls), key=lambda call: call.batch),
        [call for one in everyone for call in one.vectors],
        next((one.error for one in everyone if one.error is not None), None),
        any(one.drew for one in everyone),
        everyone[0].sources,  # the first process has the first batch
        everyone[0].label_source,
        next(filter(None, (one.hidden for one in everyone)), ""),
        next(filter(None, (one.not_repeated for one in everyone)), ""),
        max(one.first for one in everyone),
    )


def _point(report: AuditReport) -> dict[str, Any]:
    """One checkpoint of a trend."""

    def means(values: Mapping[str, Interval] | None) -> dict[str, float] | None:
        if values is None:
            return None
        return {name: interval.mean for name, interval in values.items()}

    return {
        "checkpoint": "" if report.checkpoint is None else Path(report.checkpoint.path).name,
        "influence": means(report.influence),
        "dominance": means(report.dominance),
        "accuracy": None if report.accuracy is None else report.accuracy.mean,
        "accuracy_loss": means(report.accuracy_loss),
        "rank1_loss": None if report.retrieval is None else means(report.retrieval.rank1_loss),
        "changed_predictions": means(report.changed_predictions),
        "missing": len(report.checkpoint.missing) if report.checkpoint else 0,
        "mismatched": len(report.checkpoint.mismatched) if report.checkpoint else 0,
    }


def _environment(
    model: nn.Module, config: Config, options: AuditOptions, found: Collected
) -> dict[str, Any]:
    """What is needed to repeat the audit."""
    environment = {
        **options.provenance,
        "date": today(),
        "config": config.to_dict(),
        "mode": options.mode,
        "versions": versions(),
        "git": git_state(),
        "device": str(device_of(model)),
        "amp": options.amp,
        "seed": options.seed,
        "processes": options.shard[1],
    }
    if options.forward is not None:
        forward = options.forward
        name = getattr(forward, "__qualname__", type(forward).__qualname__)
        environment["forward"] = f"{forward.__module__}:{name}"
    if found.sources:
        environment["inputs"] = found.sources
    if found.label_source is not None:
        environment["labels"] = found.label_source
    return environment
