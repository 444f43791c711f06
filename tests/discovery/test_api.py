"""The heads of public models in small, and what ``discover`` must find in each."""

from __future__ import annotations

import math

import pytest
import torch
from fusion_models import (
    OGM,
    SPLITS,
    Concat,
    LateFusion,
    Mixture,
    MultiBench,
    Product,
    ReID,
    best,
    inputs,
    prose,
    reasons,
)
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import discover


def test_concatenation_then_linear():
    report = discover(ReID(), *inputs())
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]
    assert report.candidates[0].called_in_eval
    assert not report.ruled_out
    assert not report.notes


def test_the_names_follow_the_order_of_the_concatenation():
    class Backwards(ReID):
        def encode(self, *xs: Tensor) -> list[Tensor]:
            return super().encode(*xs)[::-1]

    expected = {"head": "classifier", "splits": [5, 3, 4], "names": ["t", "n", "r"]}
    assert best(discover(Backwards(), *inputs())) == expected


def test_a_fusion_of_six_tensors_gives_a_chain_with_an_output():
    report = discover(Mixture(), dict(zip(("RGB", "NI", "TI"), inputs(3, 5, 6), strict=True)))
    assert [c.arguments for c in report.candidates] == [
        {
            "head": ["generalFusion", "bottleneck_moe", "classifier_moe"],
            "modalities": {"RGB": [0, 3], "NI": [1, 4], "TI": [2, 5]},
            "output": [0, None, None],
        }
    ]
    assert not report.candidates[0].called_in_eval


def test_a_dict_of_tensors():
    audio, video = inputs(2)
    report = discover(LateFusion(), {"audio": audio, "video": video})
    assert best(report) == {"head": "fusion_module", "modalities": {"audio": "a", "video": "b"}}
    assert report.candidates[1].head == ("fusion_module.mix",)


def test_a_list_that_is_fused_then_the_head():
    report = discover(MultiBench(Product(), 4), inputs(2))
    chain = {"head": ["fuse", "head"], "modalities": {"xs0": 0, "xs1": 1}}
    assert [c.arguments for c in report.candidates] == [chain]
    report = discover(MultiBench(Concat(), 8), inputs(2))
    single = {"head": "head", "splits": [4, 4], "names": ["xs0", "xs1"]}
    assert [c.arguments for c in report.candidates] == [single, chain]


def test_logits_among_other_outputs():
    report = discover(OGM(), *inputs(2))
    expected = {
        "head": "fusion_module",
        "modalities": {"audio": 0, "visual": 1},
        "output": 2,
    }
    inner = {"head": "fusion_module.fc", "splits": [4, 4], "names": ["audio", "visual"]}
    assert [c.arguments for c in report.candidates] == [expected, inner]
    assert not report.ruled_out


class InTraining(ReID):
    """The classifier is called in training only; another Linear in eval mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.reduction = nn.Linear(12, 3)
        self.parts = nn.ModuleList([nn.Linear(12, 2)])

    def forward(self, r, n, t):
        feature = torch.cat(self.encode(r, n, t), -1)
        feature = feature + nn.functional.linear(feature, self.parts[0].weight).mean() * 0
        return self.classifier(feature) if self.training else self.reduction(feature)


@pytest.mark.parametrize("training", [True, False])
def test_a_classifier_that_eval_mode_skips_and_modules_that_training_skips(training, golden):
    report = discover(InTraining().train(training), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.candidates[0].called_in_eval
    assert list(reasons(report)) == ["reduction", "parts.0"]
    golden(prose(report))


def test_a_model_that_fails_in_eval_mode_is_discovered_in_training(golden):
    class TrainingOnly(ReID):
        def forward(self, r, n, t):
            if not self.training:
                raise NotImplementedError("eval\nneeds more")
            return super().forward(r, n, t)

    report = discover(TrainingOnly(), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.candidates[0].called_in_eval
    golden(prose(report))


def test_a_wrapped_model_gives_the_names_of_the_bare_one():
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = ReID()

        def forward(self, r, n, t):
            return self.module(r, n, t)

    assert best(discover(Wrapper(), *inputs())) == {"head": "classifier", **SPLITS}


def test_an_attachment_that_discovery_suggests_works():
    model, xs = ReID(), inputs()
    handle = cmiei_hooks.attach(
        model, **best(discover(model, *xs)), log=False, warmup_epochs=0, abs_thr=0.0
    )
    model(*xs)
    assert not math.isnan(handle.metrics()["Hist_t"])  # it was measured
