"""``audit()``: how much a model's predictions depend on each modality."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import CMIEIWarning, InputError
from ..fusion import Combine, HeadLike, Outputs, head_names, locate
from ..settings import Config, ConfigSource, refuse_both
from .batches import Column, Columns
from .checkpoint_file import checkpoints_in
from .options import AuditOptions, Forward
from .report import AuditReport
from .run import audit_checkpoints

__all__ = ["audit"]

PathLike = str | os.PathLike[str]


def audit(
    model: nn.Module,
    batches: Iterable[Any] | None,
    head: HeadLike | None = None,
    splits: Sequence[int | None] | Mapping[str, int | None] | None = None,
    *,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    combine: Combine | None = None,
    in_training_branch: bool = False,
    features_head: bool = False,
    forward: Forward | None = None,
    inputs: Sequence[Column] | None = None,
    labels: Column | None = None,
    group_by: Column | None = None,
    checkpoints: PathLike | Sequence[PathLike] | None = None,
    weights: str | None = None,
    save_features: PathLike | None = None,
    features: PathLike | None = None,
    amp: bool = False,
    limit: int | None = None,
    distributed: bool = False,
    config: ConfigSource = None,
    **settings: Any,
) -> AuditReport:
    """Measure how much a model's predictions depend on each modality, without training.

    The model runs in eval mode without gradient; afterwards its flags, weights, buffers and
    attributes are as before, and so are the global random generators.

    Example:
        >>> report = audit(model, loader, head="classifier", splits=[512, 512, 512], labels=1)
        >>> report.influence["r"].mean
        0.1877
        >>> report.save("runs/audit")
        >>> report = audit(model, loader, "classifier", [512, 512, 512], checkpoints="epochs/")
        >>> [point["influence"]["r"] for point in report.trend]

    Args:
        model: with its weights loaded, unless there are ``checkpoints``.
        batches: each a tensor, a tuple or list of tensors, a dict (of keyword arguments, if the
            model has them), or a pair of any of these and labels. None with ``features``.
        head: as in ``attach``, like the arguments below.
        splits: widths of the modalities, or a dict of their names and widths; one width may be
            None, the rest.
        names: names of the modalities.
        modalities: where they are, for heads that receive them otherwise.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        combine: how the model combines the logits of its branches.
        in_training_branch: run the branch ``if self.training``, for models that call their head in
            no other. Normalisation, dropout and stochastic depth are in eval mode all the same.
        features_head: audit a head that returns features, from which the model computes its output
            by more layers. Without it such a head is refused, since a hidden layer that is named
            by mistake has an influence, too. There is no accuracy then.
        forward: ``forward(model, batch)`` runs the model on one batch as the loader yields it (on
            the model's device), for models that need labels or anything else. No labels are guessed
            then: name their column.
        inputs: indices or keys of the columns that the model is called with, in the order of its
            arguments. By default these are all columns but labels and groups; optional arguments of
            the model are filled only from columns that are named here, or by the keys of a dict.
        labels: index or key of the labels in a batch. By default a trailing integer tensor ``[B]``
            is taken for them, or one under ``labels``, ``label``, ``target`` or ``y`` in a dict if
            the model does not take that keyword. With labels, accuracies are reported.
        group_by: index or key of a group in a batch (camera, site) to report strata by.
        checkpoints: a file, a directory of files (one for each epoch), or a list of them. Each is
            loaded into the model and audited, always from the same seed; the report is that of the
            last one, with the ``trend`` over all.
        weights: which weights of a checkpoint to load: a top-level key or a prefix, such as
            ``"ema"``.
        save_features: a file for what the head receives.
        features: such a file: the head alone runs over it, with the same result.
        amp: run under autocast (float16 on a GPU, bfloat16 on a CPU).
        limit: stop after the batch that reaches this number of samples.
        distributed: divide the batches among the processes of ``torch.distributed``. Every process
            must call ``audit`` with the same batches, and gets the whole report.
        config: ``DROP``, ``MEASURE``, ``SEED`` and the thresholds matter; ``ENABLED`` does not.
        **settings: fields of Config.

    Returns:
        The report over all samples.

    Raises:
        CMIEIError: as ``attach``; the head is not called in this mode; the model does not return
            its logits; there is no batch; a batch does not fit the model; or a checkpoint cannot be
            loaded.
    """
    refuse_both(splits, modalities)
    named = head_names(model, head)
    resolved = Config.resolve(config, settings, head=named, splits=splits, names=names)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output, combine=combine)
    columns = Columns(labels, group_by, None if inputs is None else tuple(inputs))
    options = AuditOptions(
        in_training_branch,
        features_head,
        forward,
        columns,
        amp=amp,
        limit=limit,
        seed=resolved.seed or 0,
        weights=weights,
        save_features=save_features,
        features=features,
        distributed=distributed,
    )
    files = _files(checkpoints)
    _refuse_used_up(batches, files)
    outcome = audit_checkpoints(model, lambda: batches, where, resolved, options, files)
    report = outcome.complete()
    for note in report.notes:
        warnings.warn(note, CMIEIWarning, stacklevel=2)
    return report


def _files(checkpoints: PathLike | Sequence[PathLike] | None) -> list[str]:
    if checkpoints is None:
        return []
    several = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else checkpoints
    return [file for path in several for file in checkpoints_in(path)]


def _refuse_used_up(batches: object, files: Sequence[str]) -> None:
    if len(files) > 1 and isinstance(batches, Iterator):
        raise InputError(
            "an iterator of batches is used up after the first checkpoint",
            got=f"{type(batches).__name__} for {len(files)} checkpoints",
            expected="batches that can be iterated over once for each checkpoint",
            remedy="pass a list or a DataLoader",
        )
