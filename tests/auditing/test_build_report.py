"""What a report has, against the model run by hand; what is left out of it, and why."""

from __future__ import annotations

import math
import warnings
from itertools import accumulate

import pytest
import torch
from helpers import WIDTHS, Fused
from rich.console import Console
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import audit

WHERE = {"head": "classifier", "splits": WIDTHS}


def quietly(*args, **options):
    """The report, without the warnings, which say the same as its notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cmiei_hooks.CMIEIWarning)
        return audit(*args, **options)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda y: y + 100, id="identities of query and gallery"),
        pytest.param(lambda y: torch.where(torch.arange(64) % 2 == 0, y, -100), id="ignored"),
        pytest.param(lambda y: torch.where(torch.arange(64) == 5, 7, y), id="one of 64"),
    ],
)
def test_labels_that_are_not_classes_give_no_accuracy_but_a_reason(change, golden):
    model, x = Fused(), torch.randn(64, 6)
    y = model(x).argmax(1)
    with pytest.warns(cmiei_hooks.CMIEIWarning):
        report = audit(model, [(x, change(y))], **WHERE)
    golden("\n".join(report.notes))
    content = report.to_dict()
    unknown = {"mean": None, "low": None, "high": None}
    assert content["accuracy"] == unknown
    for key in ("accuracy_without", "accuracy_alone", "shapley_accuracy"):
        assert content[key] == dict.fromkeys("rnt", unknown)
    assert report.accuracy is None
    assert content["notes"] == list(report.notes)
    assert content["strata"]["class"]  # they are groups all the same
    right = audit(model, [(x, y)], **WHERE)  # the control
    assert (right.accuracy.mean, right.notes) == (1.0, ())
    assert right.influence == report.influence


class Cosine(nn.Module):
    """Without an epsilon: NaN when nothing is left of the features."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        directions = self.weight / self.weight.norm(dim=1, keepdim=True)
        return 16 * (x / x.norm(dim=1, keepdim=True)) @ directions.T


def test_a_coalition_without_finite_logits_leaves_the_shapley_values_unknown(golden):
    torch.manual_seed(0)
    weight, x = torch.randn(7, 12), torch.randn(64, 6)
    model = Fused(Cosine(weight))
    y = torch.randint(7, (64,))
    report = quietly(model, [(x, y)], **WHERE)
    golden("\n".join(report.notes))
    content = report.to_dict()
    assert content["non_finite"] == 0
    for key in ("shapley", "shapley_accuracy"):
        assert {value["mean"] for value in content[key].values()} == {None}
    for key in (
        "interactions",
        "interactions_accuracy",
    ):  # of pairs of three, all need the empty one
        assert {pair["mean"] for pair in content[key]} == {None}
    assert content["accuracy"]["mean"] == (model(x).argmax(1) == y).double().mean().item()
    assert content["accuracy_alone"]["r"]["mean"] is not None


def test_the_numbers_of_the_classes_do_not_matter():
    torch.manual_seed(0)
    weight, x, y = torch.randn(7, 12), torch.randn(64, 6), torch.randint(7, (64,))
    model, found = Fused(Cosine(weight)), []
    for shift in range(3):
        model.classifier.weight.data = weight.roll(shift, 0)
        content = quietly(model, [(x, (y + shift) % 7)], **WHERE).to_dict()
        found.append((content["accuracy"], content["shapley_accuracy"], content["accuracy_alone"]))
    assert found[0] == found[1] == found[2]


class Broken(nn.Module):
    """Class 2 has an infinite logit when the first modality is alone."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.linear, self.value = nn.Linear(12, 7), value

    def forward(self, x: Tensor) -> Tensor:
        alone = (x[:, 4:] == 0).all(1) & (x[:, :4] != 0).any(1)
        logits = self.linear(x)
        logits[:, 2] = torch.where(alone, self.value, logits[:, 2])
        return logits


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_one_broken_coalition_is_named(value, golden):
    report = quietly(Fused(Broken(value)), [(torch.randn(16, 6), torch.randint(7, (16,)))], **WHERE)
    golden("\n".join(report.notes))
    assert math.isnan(report.accuracy_alone["r"].mean)
    assert not math.isnan(report.accuracy_alone["n"].mean)
    assert math.isnan(report.shapley_accuracy["t"].mean)


def test_a_prediction_that_is_not_known_is_empty_in_the_rows():
    x = torch.randn(6, 6)
    x[0] = math.nan
    rows = audit(Fused(), [x], **WHERE).rows
    assert [row["predicted"] == "" for row in rows] == [True] + [False] * 5


def test_the_notes_are_in_every_form_of_the_report(tmp_path):
    report = quietly(Fused(), [(torch.randn(8, 6), torch.full((8,), 100))], **WHERE)
    report.save(tmp_path)
    console = Console(width=200, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(report.table())
    (note,) = report.notes
    example = note.partition(", such as ")[0]
    for text in (captured.get(), *((tmp_path / f"report.{s}").read_text() for s in ("md", "html"))):
        assert example in " ".join(text.replace("\\", "").split())


def test_samples_without_any_influence_are_counted_but_no_modality_dominates_them():
    model, x = Fused(), torch.randn(20, 6)
    with torch.no_grad():
        model.classifier.weight.zero_()
    report = audit(model, [(x, torch.arange(20) % 7)], **WHERE)
    assert (report.n_samples, report.non_finite) == (20, 0)
    assert [share.mean for share in report.dominance.values()] == [0, 0, 0]
    assert report.triggered.mean == 0
    assert all(cell.triggered == cell.substituted == 0 for cell in report.what_if)
    assert {row["dominant"] for row in report.rows} == {""}
    assert all(set(stratum["dominance"].values()) == {0} for stratum in report.strata["class"])
    assert [pair.interval.mean for pair in report.agreement] == [1, 1, 1]


@pytest.mark.parametrize("measure", ["kl", "squared"])
def test_what_is_rounding_depends_on_the_measure(measure):
    """Outputs in small units have small squared differences, which are not rounding."""
    model, x = Fused(), torch.randn(20, 6)
    with torch.no_grad():
        model.classifier.weight.mul_(1e-4)
    report = audit(model, [x], **WHERE, measure=measure)
    total = sum(share.mean for share in report.dominance.values())
    assert total == pytest.approx(1 if measure == "squared" else 0)


def test_chance_is_that_of_the_first_samples_whatever_follows():
    model, x = Fused(), torch.randn(600, 6)
    x[7] = math.nan
    first = quietly(model, [x[:200], x[200:400]], **WHERE).null
    whole = quietly(model, [x[:200], x[200:400], 9 * x[400:]], **WHERE)
    assert {null["n"] for null in whole.null.values()} == {399}  # 256 are reached in batch 2
    assert whole.null == first
    assert whole.n_samples == 599


@pytest.mark.parametrize("coalitions", [True, False])
def test_what_is_lost_without_each_modality(coalitions):
    """Against the model's own head, run here with columns set to zero."""
    torch.manual_seed(3)
    widths = [2, 1, 3] if coalitions else [1] * 9  # nine are too many for all coalitions
    model = Fused(widths=widths)
    x, noise = torch.randn(400, 6), torch.randint(7, (400,))
    label = model(x).argmax(1).where(torch.rand(400) < 0.8, noise)
    report = audit(model, [(x[:25], label[:25]), (x[25:], label[25:])], "classifier", widths)
    with torch.no_grad():
        features = model.features(x)
        complete = model.classifier(features).argmax(1)
        for name, start, width in zip(report.names, accumulate([0, *widths]), widths, strict=False):
            dropped = features.clone()
            dropped[:, start : start + width] = 0
            without = model.classifier(dropped).argmax(1)
            changed = (complete != without).double().mean().item()
            lost = (complete == label).double() - (without == label).double()
            assert report.changed_predictions[name].mean == pytest.approx(changed)
            assert report.accuracy_loss[name].mean == pytest.approx(lost.mean().item())
            low, high = (getattr(report.accuracy_loss[name], end) for end in ("low", "high"))
            spread = lost.std().item() / 400**0.5  # of the differences: the samples are paired
            assert (high - low) / 3.92 == pytest.approx(spread, rel=0.15)
        none = (model.classifier.bias.argmax() == label).double().mean().item()
    if coalitions:
        assert report.accuracy_none.mean == pytest.approx(none)
        total = report.accuracy.mean - none
        assert report.shapley_accuracy_total.mean == pytest.approx(total)
        assert sum(v.mean for v in report.shapley_accuracy.values()) == pytest.approx(total)
    else:
        assert report.accuracy_none is None
