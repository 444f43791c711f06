"""What limits the conclusion: it never contradicts what is concluded."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from media import in_terminal
from sample_audit import around, sample
from torch import nn

from cmiei_hooks import audit
from cmiei_hooks.auditing import Interval
from cmiei_hooks.auditing.caveats import caveats, warnings
from cmiei_hooks.auditing.conclusion import conclusion
from cmiei_hooks.auditing.report_sections import in_sections
from cmiei_hooks.auditing.results import Retrieval

NO_EVIDENCE = "no evidence that the head uses"


@pytest.mark.parametrize("many", [1, 2])
def test_one_sample_is_not_several(many, golden):
    report = sample(n_samples=many, non_finite=many, partial=True)
    said = [*warnings(report), *caveats(report), in_sections(report).subtitle]
    golden("\n".join(line for line in said if "sample" in line))


@pytest.mark.parametrize("p", [0.05, 1 / 20])
def test_a_p_at_its_floor_is_not_called_clear(p):
    null = {n: {**values, "p": p} for n, values in sample().null.items()}
    text = in_terminal(in_sections(sample(null=null)))
    assert "clearly" not in text
    assert "\u2264 0.050" in text
    assert "hance" not in " ".join(caveats(sample(null=null)))


def test_the_caveats(golden):
    golden("\n".join(caveats(sample())))
    null = {n: {**values, "p": 0.4} for n, values in sample().null.items()}
    total = Interval(0.01, -0.02, 0.04)
    golden("\n".join(caveats(sample(null=null, n_samples=40, shapley_accuracy_total=total))))


@pytest.mark.negative_control
def test_where_there_is_nothing_to_add_there_is_no_caveat():
    agreed = tuple(dataclasses.replace(pair, interval=around(0.95)) for pair in sample().agreement)
    null = {n: {**values, "p": 0.05} for n, values in sample().null.items()}
    assert not caveats(sample(null=null, agreement=agreed, checkpoint=None))


def by_chance(**changes):
    """A report in which shuffled weights reach every influence."""
    null = {n: {**values, "p": 0.15} for n, values in sample().null.items()}
    agreed = tuple(dataclasses.replace(pair, interval=around(0.95)) for pair in sample().agreement)
    return sample(null=null, agreement=agreed, checkpoint=None, **changes)


def twin_columns(later: float) -> list:
    """A head for which shuffled weights are the same weights: r has two columns with equal ones.
    After the first 256 samples the columns of r are multiplied by ``later``.
    """
    drawn = torch.Generator().manual_seed(0)
    side = torch.randn(400, 1, generator=drawn)
    x = torch.cat([side, side, 0.1 * torch.randn(400, 2, generator=drawn)], dim=1)
    x[256:, :2] *= later
    return list(zip(x.split(64), (side[:, 0] > 0).long().split(64), strict=True))


@pytest.mark.parametrize("later", [1.0, 3.0], ids=["as the first", "larger than the first"])
@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # few samples
def test_a_modality_that_the_model_leans_on_is_not_said_to_be_unused(later, golden):
    """The influence of r is that of chance (p 1), and all accuracy is lost without it."""
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    model[0].weight.data = torch.tensor([[-1.0, -1.0, 0.1, -0.1], [1.0, 1.0, -0.1, 0.1]])
    report = audit(model, twin_columns(later), head="0", splits=[2, 2], names=["r", "n"])
    assert report.null["r"]["p"] == 1
    assert "Leans on r" in conclusion(report)
    (said,) = [line for line in caveats(report) if "as much influence as r" in line]
    assert f"{NO_EVIDENCE} r" not in said
    assert f"{NO_EVIDENCE} the modality" not in said
    golden(said)


UNLABELLED = {"accuracy": None, "accuracy_loss": None, "accuracy_without": None}
NONE_LOST = {n: Interval(0.0, -0.1, 0.1) for n in "rnt"}


def identities() -> Retrieval:
    loss = {"r": around(0.2), "n": around(0.15), "t": Interval(0.0, -0.1, 0.1)}
    return Retrieval(800, around(0.8), {n: around(0.8 - v.mean) for n, v in loss.items()}, loss)


BY_CHANCE = {
    "accuracy": {},
    "nothing lost": {"accuracy_loss": NONE_LOST},
    "rank-1": {**UNLABELLED, "retrieval": identities()},
    "predictions": UNLABELLED,
    "influence": {**UNLABELLED, "changed_predictions": None},
}


@pytest.mark.parametrize("case", BY_CHANCE)
def test_chance_says_what_is_known_of_what_the_conclusion_names(case, golden):
    report = by_chance(**BY_CHANCE[case])
    (said,) = caveats(report)
    golden(f"{conclusion(report)}\n{said}")


@pytest.mark.negative_control
def test_a_loss_that_may_be_chance_is_no_evidence_either():
    (said,) = caveats(by_chance(accuracy_loss=NONE_LOST))
    assert NO_EVIDENCE in said
    (said,) = caveats(by_chance())
    assert NO_EVIDENCE not in said


@pytest.mark.parametrize("gained", [(0.01, -0.02, 0.04), (-0.1, -0.2, -0.05)])
def test_an_accuracy_that_is_there_without_modalities_may_still_fall_without_one(gained, golden):
    """Without r alone the head is off balance; without all it is right as often as with all."""
    total = Interval(*gained)
    for changes in ({}, {"accuracy_loss": NONE_LOST}):
        report = sample(shapley_accuracy_total=total, **changes)
        (said,) = [line for line in caveats(report) if "every modality dropped" in line]
        golden(f"{conclusion(report)}\n{said}")
