"""The order of the candidates, and what rules other modules out."""

from __future__ import annotations

import pytest
import torch
from fusion_models import SPLITS, C, Experts, ReID, best, inputs, prose, with_head
from torch import nn

from cmiei_hooks import discover


def test_the_outermost_sequential_is_preferred_to_its_parts():
    head = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, C))
    report = discover(with_head(head), *inputs())
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]


def test_shared_blocks_come_after_modalities_that_stand_apart():
    class Both(Experts):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(9, C)

        def forward(self, r, n, t):
            features = [e(x) for e, x in zip(self.encoders.values(), (r, n, t), strict=True)]
            return self.classifier(torch.cat(features, -1)), super().forward(r, n, t)

    heads = [c.head for c in discover(Both(), *inputs()).candidates]
    assert heads == [("classifier",), ("classifier_moe",)]


def test_every_head_of_a_model_is_found():
    class TwoHeads(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(12, 3)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.second(feature)

    heads = [c.head for c in discover(TwoHeads(), *inputs()).candidates]
    assert sorted(heads) == [("classifier",), ("second",)]


def test_a_head_of_one_modality_is_ruled_out(golden):
    class PerModality(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.classifier_r = nn.Linear(4, C)

        def forward(self, r, n, t):
            features = self.encode(r, n, t)
            return self.classifier(torch.cat(features, -1)), self.classifier_r(features[0])

    report = discover(PerModality(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    golden(prose(report))


def test_a_discarded_output_is_ruled_out(golden):
    class Discards(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(12, C)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            self.unused(feature)
            return self.classifier(feature)

    report = discover(Discards(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    golden(prose(report))


def test_a_head_that_is_called_twice_is_ruled_out(golden):
    class Twice(ReID):
        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.classifier(feature * 2)

    report = discover(Twice(), *inputs())
    assert [(c.head, c.output) for c in report.candidates] == [(("",), (0,)), (("",), (1,))]
    golden(prose(report))


def test_a_module_that_holds_the_backbone_comes_last(golden):
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ReID()

        def forward(self, r, n, t):
            return self.net(r, n, t)

    report = discover(Whole(), *inputs())
    assert [c.head for c in report.candidates] == [("net.classifier",), ("net",)]
    golden(prose(report))


def test_an_input_without_effect_is_said(golden):
    class Ignores(ReID):
        def forward(self, r, n, t, u):
            return super().forward(r, n, t)

    report = discover(Ignores(), *inputs(4))
    assert best(report) == {"head": "classifier", **SPLITS}
    assert len(report.notes) == 1
    golden(prose(report))


def test_a_model_that_is_random_says_so(golden):
    class Noise(nn.Module):
        generator = torch.Generator()

        def forward(self, x):
            return x + torch.randn(x.shape, generator=self.generator)

    class Noisy(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.noise = Noise()

        def forward(self, r, n, t):
            return self.classifier(self.noise(torch.cat(self.encode(r, n, t), -1)))

    report = discover(Noisy(), *inputs())
    assert not report.candidates
    golden(prose(report))


@pytest.mark.parametrize("kept", [0, None])
def test_outputs_that_are_discarded_are_counted(kept, golden):
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(12, C)

        def forward(self, x):
            return x.sum(), self.unused(x)

    class Discards(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            pair = self.pair(feature)
            return self.classifier(feature) if kept is None else (self.classifier(feature), pair[0])

    report = discover(Discards(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    golden(prose(report))
