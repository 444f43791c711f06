"""A Trainer of transformers with a tiny model, for the tests of its callback."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

pytest.importorskip("transformers", reason="transformers is not installed (extra transformers)")

from transformers import Trainer, TrainerCallback, TrainingArguments

from cmiei_hooks.integrations.transformers import CMIEICallback

__all__ = [
    "EAGER",
    "CMIEICallback",
    "Data",
    "FailingStep",
    "Task",
    "TrainerCallback",
    "callback",
    "failing_metrics",
    "trainer",
]

EAGER = {"k": 2, "warmup_epochs": 1, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}
"""Something is substituted from the second epoch on."""


class Task(Fused):
    """As the Trainer wants it: labels in, loss and logits out."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(nn.Sequential(nn.Dropout(0.1), nn.Linear(sum(WIDTHS), 7)))

    def forward(self, x, labels=None):
        logits = super().forward(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Data(Dataset):
    def __init__(self, samples: int = 64) -> None:
        self.x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(2))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": int(self.x[i].argmax())}


def trainer(tmp_path, *callbacks, model=None, kind=Trainer, metrics=None, **options) -> Trainer:
    plain = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "use_cpu": True}
    quiet = {"report_to": [], "disable_tqdm": True, "logging_steps": 3, "save_strategy": "no"}
    args = TrainingArguments(str(tmp_path), **{**plain, **quiet, **options})
    model = model or Task()
    made = kind(model, args, train_dataset=Data(), eval_dataset=Data(16), compute_metrics=metrics)
    for one in callbacks:
        made.add_callback(one)
    return made


def callback(**options) -> CMIEICallback:
    return CMIEICallback("classifier", WIDTHS, **{**EAGER, **options})


class FailingStep(Trainer):
    fails = True

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.fails and self.state.global_step == 3:
            raise RuntimeError("out of luck")
        return loss


def failing_metrics(_):
    raise RuntimeError("out of luck")
