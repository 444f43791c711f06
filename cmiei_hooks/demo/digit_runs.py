"""The demonstration's trainings, without and with C-MIEI, and their audits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ..auditing import AuditReport, audit
from ..errors import missing_extra
from ..reporting import whole_file
from ..training import attach
from .training_loop import train_epochs
from .views_model import WIDTH

try:
    from . import digits
except ModuleNotFoundError as error:
    raise missing_extra("demo", "the demo needs scikit-learn for its data", error) from error

EPOCHS = 30
HEAD = "classifier"
VIEWS = digits.VIEWS
SPLITS = [WIDTH] * len(VIEWS)


def train(seed: int, equalise: bool) -> Iterator[tuple[int, nn.Module]]:
    """Train from the seed; yields after each epoch how many are done, and the model."""
    torch.manual_seed(seed)
    model, loader = digits.make_model(), digits.make_train_loader(seed)
    handle = attach(model, head=HEAD, splits=SPLITS, names=VIEWS, enabled=equalise, log=equalise)
    for done in train_epochs(model, loader, EPOCHS, handle):
        yield done, model


def train_and_save(
    seed: int, equalise: bool, path: Path, done: Callable[[int], object] = lambda epochs: None
) -> None:
    """Train from the seed and save the weights.

    Args:
        seed: of weights, batches and noise.
        equalise: whether C-MIEI acts.
        path: the checkpoint to write.
        done: called after each epoch with the number of epochs done.
    """
    # One thread: the model is tiny, and its sums then have the same order on every machine.
    with _one_thread():
        for epochs, trained in train(seed, equalise):
            done(epochs)
            model = trained
    with whole_file(path) as file, file.open("wb") as stream:
        torch.save(model.state_dict(), stream)


def audit_digits(checkpoint: Path) -> AuditReport:
    """The audit of a checkpoint over the test digits."""
    return audit(
        digits.make_model(),
        digits.make_test_loader(),
        head=HEAD,
        splits=SPLITS,
        names=VIEWS,
        checkpoints=checkpoint,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
