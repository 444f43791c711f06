"""Any multi-view data set in one ``.npz`` file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ..demo import ViewsModel
from ..errors import ValidationError, did_you_mean
from .fit import fit

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
    """Train the demonstration's model on the views; see ``accuracy.classification``.

    Args:
        attach: as ``cmiei_hooks.attach``.
        seed: of weights, batches and, with ``rows_per_class``, of the choice of rows.
        npz: a file with one array ``[rows, width]`` for each view, labels ``y [rows]`` from 0, and
            ``split [rows]``: 0 for training, 1 for the test.
        views: names of two or more arrays.
        rows_per_class: of the training rows, so many are drawn from each class; None: all.
        epochs: of the training.
        batch: rows of a training batch.

    Raises:
        ValidationError: the file does not hold that.
    """
    arrays, labels, split = _read(npz, views)
    draw = torch.Generator().manual_seed(seed)
    rows = _rows(labels, split, rows_per_class, draw)
    test = (split == _TEST).nonzero()[:, 0]
    if len(rows) < batch or not len(test):
        raise ValidationError(
            f"{npz} has too few rows",
            got=f"{len(rows)} for training, {len(test)} for the test",
            expected=f"a batch of {batch} or more, and one or more",
            remedy="choose a smaller batch or more rows_per_class; split is 0 for training, 1 for "
            "the test",
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


def _rows(labels: Tensor, split: Tensor, per_class: int | None, draw: torch.Generator) -> Tensor:
    """The rows of the training."""
    rows = (split == _TRAIN).nonzero()[:, 0]
    if per_class is None:
        return rows
    rows = rows[torch.randperm(len(rows), generator=draw)]
    return torch.cat([rows[labels[rows] == label][:per_class] for label in torch.unique(labels)])


def _read(npz: str, views: Sequence[str]) -> tuple[list[Tensor], Tensor, Tensor]:
    try:
        import numpy as np  # noqa: PLC0415  # needs the extra [demo]
    except ImportError as error:
        raise ValidationError(
            ".npz files are read by numpy",
            got=str(error),
            expected="the extra [demo]",
            remedy="pip install 'cmiei-hooks[demo]'",
        ) from error
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
            expected="a file that numpy.savez wrote, without Python objects",
            remedy="check the path",
        ) from error
    if len(views) < 2 or any(a.dim() != 2 or len(a) != len(labels) for a in arrays):
        shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in zip(views, arrays, strict=True))
        raise ValidationError(
            "these are not views of the same rows",
            got=f"{shapes}, y {list(labels.shape)}",
            expected="two or more arrays [rows, width] with as many rows as y",
            remedy="name other arrays",
        )
    return arrays, labels, split
