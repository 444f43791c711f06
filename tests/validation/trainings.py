"""Small trainings for the tests, at module level so that worker processes find them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from helpers import WIDTHS, Fused
from torch import nn

STRONG = "r"


def train(attach, seed, *, epochs=4, steps=6, repeatable=True, limit=0.0, tells=True, **settings):
    """Regression to labels that mostly follow the first inputs."""
    torch.manual_seed(seed)
    if not repeatable:
        torch.seed()
    model = Fused()
    x = torch.randn(steps, 16, 6)
    y = (x[..., 0] > 0).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    settings = {"warmup_epochs": 1, **settings} if tells else settings
    epoch = None
    if settings.get("epoch") == "asked":
        settings["epoch"] = lambda: epoch
    with attach(model, head="classifier", splits=WIDTHS, **settings) as handle:
        for epoch in range(epochs):
            if tells:
                handle.set_epoch(epoch)
            for batch, labels in zip(x, y, strict=True):
                loss = nn.functional.cross_entropy(model(batch), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        right = (model(x).argmax(-1) == y).float().mean()
    return {"accuracy": right.item(), "loss": loss.item()}


def never_attaches(attach, seed):
    return {"accuracy": 1.0}


def attaches_twice(attach, seed):
    for _ in range(2):
        attach(Fused(), head="classifier", splits=WIDTHS)
    return {"accuracy": 1.0}


def returns_nothing(attach, seed):
    train(attach, seed)


def breaks_at_seed_1(attach, seed):
    if seed == 1:
        raise RuntimeError("out of coffee")
    return train(attach, seed)


def never_sets_the_epoch(attach, seed):
    attach(Fused(), head="classifier", splits=WIDTHS)
    return {"accuracy": 1.0}


def returns_a_word(attach, seed):
    return {**train(attach, seed), "note": None}


def cider(attach, seed, *, epochs):
    return {"CIDEr": train(attach, seed, epochs=epochs)["accuracy"], "CI r": 0.1}


def changes_directory(attach, seed, *, file=None):
    assert file is None or Path(file).exists()
    os.chdir(tempfile.gettempdir())
    return train(attach, seed)


def in_steps(attach, seed, *, epochs):
    return train(attach, seed, epochs=epochs, tells=False, warmup_steps=10, log_period=8)


def asks(attach, seed, *, epochs):
    return train(attach, seed, epochs=epochs, tells=False, warmup_epochs=2, epoch="asked")


def not_a_number_at_seed_1(attach, seed):
    return train(attach, seed, steps=1) | ({"accuracy": float("nan")} if seed == 1 else {})
