"""report.json is what its schema says: neither has a key that the other lacks."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers import WIDTHS, Fused
from sample_audit import sample
from schemas import errors, is_closed, keys, schema_of, unused
from torch import nn

import cmiei_hooks

SCHEMA = schema_of("report")
WHERE = {"head": "classifier", "splits": WIDTHS}
pytestmark = pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # the notes


def batches(labels: bool = True) -> list:
    generator = torch.Generator().manual_seed(4)
    many = [torch.randn(16, 6, generator=generator) for _ in range(3)]
    return [(x, torch.arange(16) % 7, torch.arange(16) % 2) if labels else x for x in many]


def nine_modalities() -> dict:
    class Nine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(18, 5)

        def forward(self, x):
            return self.classifier(x)

    data = [torch.randn(8, 18)]
    return cmiei_hooks.audit(Nine(), data, head="classifier", splits=[2] * 9)


def of_checkpoints(folder) -> cmiei_hooks.AuditReport:
    for epoch in (1, 2):
        torch.save({"state_dict": Fused().state_dict(), "extra": 1}, folder / f"{epoch}.pth")
    options = {"labels": 1, "group_by": 2, "inputs": (0,), "checkpoints": folder, "seed": 3}
    return cmiei_hooks.audit(Fused(), batches(), **WHERE, **options)


def with_nan() -> cmiei_hooks.AuditReport:
    model = Fused()
    model.classifier.weight.data[:] = math.nan
    return cmiei_hooks.audit(model, batches(labels=False), **WHERE)


SOMETIMES = {
    "command": "cmiei diagnose",
    "model_args": {"width": "3"},
    "forward": "project:forward",
    "git": {"commit": "0123abcd", "branch": "main", "dirty": True},
}
"""What the environment has only from the command line, or in a repository."""


def with_everything(folder) -> cmiei_hooks.AuditReport:
    real = of_checkpoints(folder)
    retrieval = REPORTS["with labels that are no classes"](folder).retrieval
    environment = real.environment | SOMETIMES
    return sample(environment=environment, trend=real.trend, retrieval=retrieval)


REPORTS = {
    "with everything": with_everything,
    "of checkpoints, with labels and groups": of_checkpoints,
    "without labels": lambda _: cmiei_hooks.audit(Fused(), batches(labels=False), **WHERE),
    "of nine modalities": lambda _: nine_modalities(),
    "with labels that are no classes": lambda _: cmiei_hooks.audit(
        Fused(), [(x, label + 100) for x, label, _ in batches()], **WHERE
    ),
    "of blocks, by another measure": lambda _: cmiei_hooks.audit(
        Fused(),
        batches(labels=False),
        head="classifier",
        modalities={"a": [(0, 4)], "b": [(4, 12)]},
        measure="squared",
        abs_thr=math.inf,
        forward=lambda model, batch: model(batch),
    ),
    "without any finite logit": lambda _: with_nan(),
}


def written(kind: str, folder) -> dict:
    """The content of the file."""
    path = REPORTS[kind](folder).save(folder / "report")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_is_what_the_schema_says(kind, tmp_path):
    assert errors(written(kind, tmp_path), SCHEMA) == []


@pytest.mark.negative_control
def test_a_key_that_the_schema_lacks_is_an_error_wherever_it_is(tmp_path):
    content = written("with everything", tmp_path)
    content["strata"]["class"], content["what_if"] = (
        content["strata"]["class"][:1],
        content["what_if"][:1],
    )
    assert len(keys(SCHEMA)) > 10
    assert unused(content, SCHEMA) == []


@pytest.mark.negative_control
@pytest.mark.parametrize("key", ["influence", "thresholds", "environment"])
def test_a_report_without_a_key_that_is_always_there_is_an_error(key, tmp_path):
    content = written("without labels", tmp_path)
    del content[key]
    assert errors(content, SCHEMA) == [f"{key!r} is a required property"]


def test_objects_of_the_schema_allow_no_other_keys():
    assert is_closed(SCHEMA)
