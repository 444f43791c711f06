"""``compare()``: what differs between checkpoints, over the same samples."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..auditing import AuditReport, audit
from ..errors import ConfigError, InputError
from ..reporting import git_state, today, versions
from ..validation import Difference, holm, paired, verdict
from .bca import bca, draws_for
from .labels import labels_of
from .report import ComparisonReport
from .results import METRICS, Comparison, Line
from .runs import is_saved_audit, refuse_sizes
from .same_samples import refuse_other_measure, refuse_other_samples
from .saved_audit import Audited, read_audit
from .values import has_accuracy, values_of

__all__ = ["compare"]

PathLike: TypeAlias = str | os.PathLike[str]
Run: TypeAlias = AuditReport | PathLike
"""A report, the directory (or report.json) of a saved one, or a checkpoint."""

Metrics = dict[str, Tensor]


def compare(
    *runs: Run | Sequence[Run],
    model: nn.Module | None = None,
    batches: Iterable[Any] | None = None,
    seed: int = 0,
    **audit_arguments: Any,
) -> ComparisonReport:
    """Compare trained models over the same samples: accuracy, accuracy without each modality,
    influence, dominance and Shapley values, with 95 % intervals of the differences.

    The first is the reference; each of the others is compared with it. The samples must be the same
    ones in the same order, which is checked.

    Two runs are compared sample by sample: the BCa bootstrap of the paired differences, over
    samples, or over whole identities where the audits drew them. It says what other samples of the
    same kind would show, not what other trainings would. Two groups of runs (ten seeds, for
    example) are compared pair by pair, in their order: Student's t over the differences of the
    pairs. That says what other trainings would show on these samples.

    Example:
        >>> report = cmiei_hooks.compare("runs/plain", "runs/equalised")  # saved audits
        >>> report = cmiei_hooks.compare(
        ...     ["plain_0.pth", "plain_1.pth"], ["new_0.pth", "new_1.pth"],  # two seeds each
        ...     model=model, batches=loader, head="classifier", splits=[512, 512, 512],
        ... )
        >>> report.comparisons[0].of("accuracy_without")[0].verdict
        'better'
        >>> report.save("runs/comparison")

    Args:
        *runs: two or more. Each is what ``audit`` returned, the directory to which ``save`` wrote
            it, or a checkpoint; or a list of these, a group of runs. All groups have as many runs.
        model: for checkpoints, the model into which they are loaded.
        batches: for checkpoints, as ``audit`` takes them; not an iterator.
        seed: of the bootstrap.
        **audit_arguments: for checkpoints, the other arguments of ``audit``.

    Returns:
        The report; print it with ``rich.print(report.table())``.

    Raises:
        ConfigError: there are fewer than two runs, groups of different sizes, or checkpoints
            without a model.
        InputError: an audit cannot be read; or the audits have other samples, modalities, measures
            or baselines.
    """
    groups = [_group(run) for run in runs]
    refuse_sizes(groups)
    if model is None and audit_arguments:
        raise ConfigError(
            "there are arguments for an audit, but no model to audit",
            got=", ".join(audit_arguments),
            expected="model= and batches= beside them",
            remedy="pass them, or compare saved audits without these arguments",
        )

    def audited(run: Run) -> Audited:
        if isinstance(run, AuditReport) or is_saved_audit(run):
            return read_audit(run)
        if model is None:
            return _refuse_checkpoint(run)
        return read_audit(audit(model, batches, **audit_arguments, checkpoints=run))

    return _compared([[audited(run) for run in group] for group in groups], seed)


def _group(run: Run | Sequence[Run]) -> list[Run]:
    return [run] if isinstance(run, (AuditReport, str, os.PathLike)) else list(run)


def _refuse_checkpoint(run: PathLike) -> Audited:
    raise InputError(
        f"{os.fspath(run)} is not a saved audit",
        got="no report.json there",
        expected="the directory of an audit; or a checkpoint, with the model to load it into",
        remedy="pass model=, batches= and head= for checkpoints (on the command line --model, "
        "--data and --head), or check the path",
    )


def _compared(groups: Sequence[Sequence[Audited]], seed: int) -> ComparisonReport:
    audits = [audit for group in groups for audit in group]
    titles, notes = labels_of(groups), _checked(audits, labels_of([[one] for one in audits]))
    first, names = audits[0], audits[0].names
    labelled = all(map(has_accuracy, audits))
    values = [values_of(one, names, labelled=labelled) for one in audits]
    notes += _missing_metrics(values, labels_of([[one] for one in audits]))
    values, kept = _of_kept(values)
    size, over = len(groups[0]), str(first.facts["interval"]["over"])
    split = [values[i : i + size] for i in range(0, len(values), size)]
    clusters = first.columns["label"][kept].long() if over == "identities" else None
    found = [
        _over_runs(split[0], others)
        if size > 1
        else _over_samples(split[0][0], others[0], clusters, seed, len(split) - 1)
        for others in split[1:]
    ]
    return ComparisonReport(
        reference=titles[0],
        comparisons=_judged(found, split, titles[1:], names),
        names=names,
        drop=first.facts["drop"],
        measure=first.facts["measure"],
        n_samples=int(kept.sum()),
        left_out=int((~kept).sum()),
        over="runs" if size > 1 else over,
        runs={t: [a.path for a in group] for t, group in zip(titles, groups, strict=True)},
        notes=tuple(notes),
        environment={"date": today(), "versions": versions(), "git": git_state(), "seed": seed},
    )


def _checked(audits: Sequence[Audited], labels: Sequence[str]) -> list[str]:
    """Refuse what cannot be compared; returns what a reader must know."""
    refuse_other_measure(audits, labels)
    notes = [
        f"The audit {label} is partial: it ended before all data was read."
        for one, label in zip(audits, labels, strict=True)
        if one.facts["partial"]
    ]
    notes += refuse_other_samples(audits, labels)
    known = list(map(has_accuracy, audits))
    if any(known) and not all(known):
        notes.append(f"Accuracy is left out: the audit {labels[known.index(False)]} has none.")
    if all(audit.facts.get("retrieval") for audit in audits):
        notes.append("Rank-1 is not compared: audits save it of all samples, not of each.")
    return notes


_WORDS = {
    "accuracy_without": "accuracy without each modality",
    "accuracy_alone": "accuracy with each modality alone",
    "shapley": "Shapley values",
}
"""The metrics that an audit may lack although others have them."""


def _missing_metrics(values: Sequence[Metrics], labels: Sequence[str]) -> list[str]:
    """What is left out because some audits do not have it."""
    known = [metric for metric in _WORDS if any(metric in one for one in values)]
    lacking = [[_WORDS[m] for m in known if m not in one] for one in values]
    return [
        f"Not compared: {', '.join(words)}. The audit {label} does not have them; it may be of an "
        "earlier version."
        for words, label in zip(lacking, labels, strict=True)
        if words
    ]


def _of_kept(values: Sequence[Metrics]) -> tuple[list[Metrics], Tensor]:
    """The metrics that all audits have, of the samples that are finite in all; and which these are.

    Raises:
        InputError: there is no such sample.
    """
    kept = torch.stack([one["influence"].isfinite().all(1) for one in values]).all(0)
    if not kept.any():
        raise InputError(
            "there is nothing to compare",
            got="no sample with finite logits in all audits",
            expected="one or more",
            remedy="check the checkpoints: logits were NaN or infinite",
        )
    common = [metric for metric in METRICS if all(metric in one for one in values)]
    return [{metric: one[metric][kept] for metric in common} for one in values], kept


def _over_samples(
    reference: Metrics, other: Metrics, clusters: Tensor | None, seed: int, comparisons: int
) -> list[Difference]:
    """One for each column of each metric, sample by sample."""
    differences = torch.cat([other[m] - values for m, values in reference.items()], dim=1)
    draws = draws_for(comparisons * differences.shape[1])
    return bca(differences, clusters=clusters, seed=seed, draws=draws)


def _over_runs(reference: Sequence[Metrics], others: Sequence[Metrics]) -> list[Difference]:
    """One for each column of each metric, pair by pair of the means of the runs."""
    columns = zip(*map(_means, reference), strict=True), zip(*map(_means, others), strict=True)
    return [paired(after, before) for before, after in zip(*columns, strict=True)]


def _means(values: Metrics) -> list[float]:
    found: list[float] = torch.cat([v.mean(0) for v in values.values()]).tolist()
    return found


def _judged(
    found: Sequence[Sequence[Difference]],
    split: Sequence[Sequence[Metrics]],
    titles: Sequence[str],
    names: Sequence[str],
) -> tuple[Comparison, ...]:
    """The lines of each comparison; Holm's correction is over all of them."""
    corrected = iter(holm([one.p for differences in found for one in differences]))
    keys = [
        (metric, name)
        for metric in split[0][0]
        for name in ([None] if metric == "accuracy" else names)
    ]
    before = _mean_over(split[0])
    made = []
    for title, differences, runs in zip(titles, found, split[1:], strict=True):
        values = zip(keys, before, _mean_over(runs), differences, strict=True)
        lines = tuple(
            Line(metric, name, old, new, one, verdict(one, METRICS[metric]), next(corrected))
            for (metric, name), old, new, one in values
        )
        made.append(Comparison(title, lines))
    return tuple(made)


def _mean_over(runs: Sequence[Metrics]) -> list[float]:
    return [math.fsum(values) / len(runs) for values in zip(*map(_means, runs), strict=True)]
