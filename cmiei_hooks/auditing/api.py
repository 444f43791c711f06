"""audit(): how much a model's prediction depends on each modality."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import CMIEIWarning, InputError
from ..fusion import Outputs, locate, refuse_both
from ..settings import Config, ConfigSource
from .batches import Columns
from .build_report import make_report
from .collect import Collected, Forward, Setting, collect
from .report import AuditReport
from .samples import together

__all__ = ["audit", "refuse_no_batches", "warn_of_draws"]


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    head: str | Sequence[str] | None = None,
    splits: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    in_training_branch: bool = False,
    forward: Forward | None = None,
    labels: int | str | None = None,
    group_by: int | str | None = None,
    config: ConfigSource = None,
    **settings: Any,
) -> AuditReport:
    """Measure how much a model's prediction depends on each modality, without training.

    The model runs in eval mode without gradient; afterwards its flags, weights, buffers and
    attributes are as before, and so are the global random generators.

    Args:
        model: with its weights loaded.
        batches: each a tensor, a tuple or list of tensors, a dict (of keyword arguments, if the
            model has them), or a pair of any of these and labels.
        head: as in ``attach``, like the arguments below.
        splits: widths of the modalities.
        names: names of the modalities.
        modalities: where they are, for heads that receive them otherwise.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        in_training_branch: run the branch ``if self.training``, for models that call their head in
            no other. Normalisation, dropout and stochastic depth are in eval mode all the same.
        forward: ``forward(model, batch)`` runs the model on one batch as the loader yields it (on
            the model's device), for models that need labels or anything else. Then no labels are
            guessed: say where they are.
        labels: index or key of the labels in a batch; a trailing integer tensor ``[B]`` is taken
            for them anyway. With labels, accuracies are reported.
        group_by: index or key of a group in a batch (camera, site): then there are strata by it.
        config: ``DROP``, ``MEASURE``, ``SEED`` and the thresholds matter; ``ENABLED`` does not.
        **settings: fields of Config.

    Returns:
        The figures over all samples.

    Raises:
        CMIEIError: as ``attach``; or the head is not called in this mode, or there is no batch.
    """
    refuse_both(splits, modalities)
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    refuse_no_batches(batches)
    seed = resolved.seed or 0
    how = Setting(in_training_branch, forward, Columns(labels, group_by), seed=seed)
    found = collect(model, batches, where, how)
    if found.error is not None:
        raise found.error
    warn_of_draws(found)
    return make_report(where, resolved, together(found.parts), seed=seed, group=group_by)


def refuse_no_batches(batches: object) -> None:
    """Refuse what yields no batches.

    Raises:
        InputError: it cannot be iterated over.
    """
    if not isinstance(batches, Iterable):
        raise InputError(
            "batches cannot be iterated over",
            got=type(batches).__name__,
            expected="batches, such as a DataLoader",
            remedy="pass a list or a loader",
        )


def warn_of_draws(found: Collected) -> None:
    """Warn if the model drew random numbers, or if labels are known of some samples only."""
    labelled = sum(part.label is not None for part in found.parts)
    if 0 < labelled < len(found.parts):
        warnings.warn(
            f"{labelled} of {len(found.parts)} batches have labels: accuracy is left out",
            CMIEIWarning,
            stacklevel=3,
        )
    if found.drew:
        warnings.warn(
            "the model drew random numbers in this mode: the figures are of one draw",
            CMIEIWarning,
            stacklevel=3,
        )
