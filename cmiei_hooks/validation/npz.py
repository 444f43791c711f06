"""The training of ``cmiei validate --npz``: a classifier of the views in one ``.npz`` file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ..demo import ViewsModel
from ..errors import ValidationError, did_you_mean, missing_extra
from .classifier import fit

__all__ = ["train"]

_TRAIN, _TEST = 0, 1


def train(
    attach: Any,
    seed: int,
    *,
    npz: str,
    views: Sequence[str],
    rows_per_class: int | None = None,
    epochs: int = 40,
    batch: int = 32,
) -> dict[str, float]:
    """Train the model of the demonstration on the views; return the metrics of ``evaluate``.

    Args:
        attach: called like ``cmiei_hooks.attach``.
        seed: decides the weights, the batches and, with ``rows_per_class``, the choice of rows.
        npz: a file with one array ``[rows, width]`` for each view, labels ``y [rows]`` from 0, and
            ``split [rows]``: 0 for training, 1 for the test.
        views: the names of two or more arrays.
        rows_per_class: the number of training rows drawn from each class; None for all.
        epochs: the number of epochs.
        batch: the rows in a training batch.

    Raises:
        ValidationError: the file does not hold that.
    """
    arrays, labels, split = _read(npz, views)
    draw = torch.Generator().manual_seed(seed)
    rows = _training_rows(labels, split, rows_per_class, draw)
    test = (split == _TEST).nonzero()[:, 0]
    if len(rows) < batch or not len(test):
        raise ValidationError(
            f"{npz} has too few rows",
            got=f"{len(rows)} for training, {len(test)} for the test",
            expected=f"at least {batch} (one batch) for training, and one for the test",
            remedy="lower batch or raise rows_per_class; split is 0 for training, 1 for the test",
        )
    scaled = []
    for array in arrays:
        spread, mean = torch.std_mean(array[rows], 0, correction=0)
        scaled.append(((array - mean) / torch.where(spread > 0, spread, 1)).float())

    def dataset(chosen: Tensor) -> TensorDataset:
        return TensorDataset(*(view[chosen] for view in scaled), labels[chosen])

    torch.manual_seed(seed)
    model = ViewsModel([view.shape[1] for view in scaled], int(labels.max()) + 1)
    shuffled = DataLoader(dataset(rows), batch, shuffle=True, drop_last=True, generator=draw)
    return fit(attach, model, views, shuffled, DataLoader(dataset(test), 256), epochs)


def _training_rows(
    labels: Tensor, split: Tensor, per_class: int | None, draw: torch.Generator
) -> Tensor:
    rows = (split == _TRAIN).nonzero()[:, 0]
    if per_class is None:
        return rows
    rows = rows[torch.randperm(len(rows), generator=draw)]
    return torch.cat([rows[labels[rows] == label][:per_class] for label in torch.unique(labels)])


def _read(npz: str, views: Sequence[str]) -> tuple[list[Tensor], Tensor, Tensor]:
    """The views in float64, the labels and the split in int64."""
    try:
        import numpy as np  # noqa: PLC0415  # needs the extra [demo]
    except ImportError as error:
        problem = "numpy is needed to read .npz files"
        raise missing_extra("demo", problem, error, ValidationError) from error
    try:
        with np.load(npz, allow_pickle=False) as file:
            for name in (*views, "y", "split"):
                if name not in file:
                    raise ValidationError(
                        f"{npz} has no array {name!r}",
                        got=", ".join(file),
                        expected="the views, y (labels from 0) and split (0 training, 1 test)",
                        remedy=did_you_mean(name, file) or "see docs/validation.md",
                    )
            arrays = [torch.from_numpy(file[name].astype(np.float64)) for name in views]
            labels, split = (torch.from_numpy(file[n].astype(np.int64)) for n in ("y", "split"))
    except (OSError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(
            f"{npz} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected="a file written by numpy.savez, without Python objects",
            remedy="check the path and the arrays",
        ) from error
    shapes = {name: list(a.shape) for name, a in zip((*views, "y"), (*arrays, labels), strict=True)}
    if len(views) < 2 or any(a.dim() != 2 or len(a) != len(labels) for a in arrays):
        raise ValidationError(
            "the arrays are not views of the same rows",
            got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            expected="two or more arrays [rows, width] with as many rows as y",
            remedy="name two or more such arrays",
        )
    return arrays, labels, split
