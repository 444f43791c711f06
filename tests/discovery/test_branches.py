"""Models that return the sum or mean of the logits of each modality."""

from __future__ import annotations

import pytest
import torch
from fusion_models import C, ReID, best, inputs, prose
from torch import nn

from cmiei_hooks import discover

HEADS = {"r": "classifiers.r", "n": "classifiers.n", "t": "classifiers.t"}


class Late(ReID):
    """A classifier for each modality."""

    def __init__(self, combine) -> None:
        super().__init__()
        self.combine = combine
        deep = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, C))
        self.classifiers = nn.ModuleDict({"r": nn.Linear(4, C), "n": nn.Linear(3, C), "t": deep})

    def forward(self, r, n, t):
        pairs = zip(self.classifiers.values(), self.encode(r, n, t), strict=True)
        return self.combine(torch.stack([classifier(x) for classifier, x in pairs]))


@pytest.mark.parametrize("how", ["sum", "mean"])
def test_branches_are_a_head(how, capsys):
    report = discover(Late(lambda z: getattr(z, how)(0)), *inputs())
    assert [c.arguments for c in report.candidates] == [{"head": HEADS, "combine": how}]
    printed = capsys.readouterr().out
    text = '"r": "classifiers.r", "n": "classifiers.n", "t": "classifiers.t"'
    assert f'attach(model, head={{{text}}}, combine="{how}")' in printed
    names = "r=classifiers.r,n=classifiers.n,t=classifiers.t"
    assert f"# cmiei diagnose --head {names} --combine {how}" in printed.splitlines()


def test_whole_networks_are_looked_into():
    """The branch is the classifier, not the network with its backbone."""

    class Networks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, C))
            self.other = nn.Linear(6, C)  # nothing in it is smaller

        def forward(self, x, y):
            return {"logits": (self.one(x) + self.other(y)) / 2}

    found = best(discover(Networks(), *inputs(2)))
    assert found == {"head": {"x": "one.2", "y": "other"}, "combine": "mean"}


@pytest.mark.negative_control
def test_another_combination_is_no_candidate(golden):
    weights = torch.tensor([0.5, 0.3, 0.2])[:, None, None]
    report = discover(Late(lambda z: (weights * z).sum(0)), *inputs())
    assert not [c for c in report.candidates if c.combine]
    golden(prose(report))
