from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

import cmiei_hooks
from cmiei_hooks import CMIEIError, audit
from cmiei_hooks.auditing.bootstrap import Interval

WHERE = {"head": "classifier", "splits": WIDTHS}


def means(intervals: dict) -> list[float]:
    return [interval.mean for interval in intervals.values()]


def normed() -> Fused:
    torch.manual_seed(1)
    model = Fused(nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 7)))
    for _ in range(5):
        model(torch.randn(32, 6) + 1)
    return model


def batches(count: int = 3, labels: bool = True) -> list:
    generator = torch.Generator().manual_seed(4)
    return [
        (x, torch.randint(7, (len(x),), generator=generator)) if labels else x
        for x in (torch.randn(10 + i, 6, generator=generator) for i in range(count))
    ]


def test_the_means_are_those_of_an_evaluation_written_by_hand():
    model = normed()
    report = audit(model, batches(), **WHERE)

    model.eval()
    with torch.no_grad():
        x = torch.cat([x for x, _ in batches()])
        label = torch.cat([label for _, label in batches()])
        features = model.features(x)
        z = model.classifier(features)
        influence, accuracy, start = [], {}, 0
        for name, width in zip("rnt", WIDTHS, strict=True):
            changed = features.clone()
            changed[:, start : start + width] = 0
            start += width
            without = model.classifier(changed)
            q, p = log_softmax(without, -1), log_softmax(z, -1)
            influence.append(kl_div(q, p, reduction="none", log_target=True).sum(-1))
            accuracy[name] = (without.argmax(-1) == label).float().mean().item()
        ci = torch.stack(influence, dim=1)
    assert report.n_samples == len(label) == 33
    assert means(report.influence) == pytest.approx(ci.mean(0).tolist(), rel=1e-4)
    hist = torch.bincount(ci.argmax(1), minlength=3) / 33
    assert means(report.dominance) == pytest.approx(hist.tolist())
    top = ci.sort(dim=1, descending=True).values
    triggered = (top[:, 0] > 0.03) & (top[:, 0] / top[:, 1] > 1.25)
    assert 0 < report.triggered.mean < 1
    assert report.triggered.mean == pytest.approx(triggered.float().mean().item())
    assert report.accuracy.mean == pytest.approx((z.argmax(-1) == label).float().mean().item())
    assert means(report.accuracy_without) == pytest.approx(list(accuracy.values()))


def test_the_model_is_left_exactly_as_it_was():
    model = normed()
    model.classifier[0].eval()  # a frozen BatchNorm in a training model
    flags = [module.training for module in model.modules()]
    before = {k: (v.clone(), v._version) for k, v in model.state_dict(keep_vars=True).items()}
    hooks = len(model.classifier._forward_pre_hooks)
    state = torch.get_rng_state()
    audit(model, batches(), **WHERE)
    assert [module.training for module in model.modules()] == flags
    after = model.state_dict(keep_vars=True)
    assert all(torch.equal(after[k], v) and after[k]._version == n for k, (v, n) in before.items())
    assert len(model.classifier._forward_pre_hooks) == hooks
    assert torch.equal(torch.get_rng_state(), state)


def test_flags_and_hooks_are_restored_when_a_loader_raises():
    model = normed()

    def loader():
        yield batches()[0]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        audit(model, loader(), **WHERE)
    assert model.training
    assert not model.classifier._forward_pre_hooks


class Two(Fused):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return super().forward(a + b)


@pytest.mark.parametrize(
    "pack",
    [
        lambda a, b, y: (a, b, y),
        lambda a, b, y: ((a, b), y),
        lambda a, b, y: [[a, b], y],
        lambda a, b, y: ({"a": a, "b": b}, y),
        lambda a, b, y: (a, b),
        lambda a, b, y: {"a": a, "b": b},
    ],
)
def test_batches_of_every_form_give_the_same(pack):
    torch.manual_seed(3)
    model = Two()
    a, b, y = torch.randn(9, 6), torch.randn(9, 6), torch.randint(7, (9,))
    report = audit(model, [pack(a, b, y)], **WHERE)
    assert report.influence == audit(model, [(a, b, y)], **WHERE).influence
    batch = pack(a, b, y)
    labelled = not isinstance(batch, dict) and batch[-1] is y
    assert (report.accuracy is not None) == labelled


def test_a_single_tensor_is_a_batch_without_labels():
    report = audit(normed(), batches(labels=False), **WHERE)
    assert report.accuracy is None
    assert "accuracy" not in report.to_dict()
    assert report.influence == audit(normed(), batches(labels=False), **WHERE).influence


def test_a_zeroed_block_has_influence_exactly_zero_and_is_never_dominant():
    model = Fused()
    with torch.no_grad():
        model.classifier.weight[:, 4:7] = 0
    report = audit(model, batches(), **WHERE)
    assert report.influence["n"] == Interval(0, 0, 0)
    assert report.dominance["n"].mean == 0
    assert report.shapley["n"].mean == pytest.approx(0, abs=1e-12)
    assert report.null["n"] == {
        "influence": 0,
        "mean": 0,
        "low": 0,
        "high": 0,
        "p": 1,
        "n": 33,
    }
    assert all(baseline["n"].mean == 0 for baseline in report.baselines.values())


def test_samples_with_nan_are_left_out_and_counted():
    model, (x, label) = Fused(), batches(1)[0]
    clean = audit(model, [(x[1:], label[1:])], **WHERE)
    x[0] = math.nan
    report = audit(model, [(x, label)], **WHERE)
    assert (report.n_samples, report.non_finite) == (9, 1)
    assert means(report.influence) == pytest.approx(means(clean.influence))
    assert report.accuracy == clean.accuracy


def test_if_all_are_nan_the_report_says_null():
    report = audit(Fused(), [torch.full((3, 6), math.nan)], **WHERE)
    assert report.n_samples == 0
    assert report.to_dict()["influence"]["r"] == {"mean": None, "low": None, "high": None}
    json.dumps(report.to_dict(), allow_nan=False)


class SkipsHead(Fused):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else self.features(x)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(SkipsHead(), batches(), id="head not called"),
        pytest.param(Fused(), [], id="no batch"),
        pytest.param(Fused(), None, id="no batches"),
        pytest.param(Fused(), [{"y": torch.randn(4, 6)}], id="unknown keyword"),
        pytest.param(
            Fused(), [(torch.randn(4, 6), torch.zeros(3, dtype=torch.int64))], id="three labels"
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(model, data, golden):
    with pytest.raises(CMIEIError) as error:
        audit(model, data, **WHERE)
    golden(f"{error.value.problem}\n{error.value.remedy}")  # the rest may be what torch says


def test_an_attached_training_hook_is_not_disturbed():
    model = Fused()
    handle = cmiei_hooks.attach(model, **WHERE, log=False)
    audit(model, batches(), **WHERE)
    assert handle.step == 0
    assert len(model.classifier._forward_pre_hooks) == 1


def test_drop_thresholds_and_the_rest_may_come_from_a_configuration():
    model, config = (
        normed(),
        {"DROP": "mean", "ABS_THR": 0.5, "HEAD": "classifier", "SPLITS": WIDTHS},
    )
    report = audit(model, batches(), config=config)
    assert report.influence == audit(model, batches(), **WHERE, drop="mean").influence
    assert report.influence != audit(model, batches(), **WHERE).influence
    assert report.triggered.mean < audit(model, batches(), **WHERE, drop="mean").triggered.mean


class Merging(Fused):
    """Changes its weights in eval mode and back, as adapters that are merged do."""

    def train(self, mode: bool = True) -> Merging:
        if mode != self.training:
            self.classifier.weight.data *= 0.5 if mode else 2
        return super().train(mode)


def test_a_model_with_a_train_method_of_its_own_is_restored_through_it():
    model = Merging()
    before = model.classifier.weight.clone()
    audit(model, batches(), **WHERE)
    assert torch.equal(model.classifier.weight, before)


def test_labels_and_groups_may_be_any_column_and_are_not_passed_to_the_model():
    model, (x, y) = normed(), batches(1)[0]
    plain = audit(model, [(x, y)], **WHERE)
    group = ["left", "right"] * 5
    for batch, labels, group_by in (
        ((x, y, group), 1, 2),
        ((group, x, y.tolist()), -1, 0),
        ({"x": x, "id": y, "camera": torch.tensor([0, 1] * 5)}, "id", "camera"),
    ):
        report = audit(model, [batch], **WHERE, labels=labels, group_by=group_by)
        assert report.influence == plain.influence
        assert report.accuracy == plain.accuracy
        (kind,) = report.strata.keys() - {"class"}
        assert kind == ("camera" if isinstance(batch, dict) else "group")
        assert {s["n"] for s in report.strata[kind]} == {5}
        assert sum(s["n"] for s in report.strata["class"]) == 10


@pytest.mark.parametrize(
    ("batch", "columns"),
    [
        ({"x": torch.randn(4, 6), "label": torch.zeros(4).long()}, {"labels": "lable"}),
        ((torch.randn(4, 6),), {"group_by": 3}),
        ((torch.randn(4, 6),), {"inputs": [1]}),
        (torch.randn(4, 6), {"inputs": [0]}),
        ((torch.randn(4, 6), torch.zeros(4)), {"labels": 1}),
        ((torch.randn(4, 6), torch.zeros(4, 2)), {"group_by": 1}),
        ((torch.randn(4, 6), ["a"] * 3), {"group_by": 1}),
    ],
)
def test_columns_that_are_not_there_or_hold_something_else_are_refused(batch, columns, golden):
    with pytest.raises(CMIEIError) as error:
        audit(Fused(), [batch], **WHERE, **columns)
    golden(error.value)


def test_with_a_forward_of_the_users_no_labels_are_guessed():
    x, cameras = torch.randn(8, 6), torch.randint(7, (8,))
    batch = (x, torch.randint(7, (8,)), cameras)

    def forward(model, given):
        return model(given[0])

    assert audit(Fused(), [batch], **WHERE, forward=forward).accuracy is None
    model = Fused()
    report = audit(model, [batch], **WHERE, forward=forward, labels=1)
    right = (model.classifier(model.features(x)).argmax(1) == batch[1]).float().mean().item()
    assert report.accuracy.mean == pytest.approx(right)


def test_splits_may_name_the_modalities():
    named = audit(Fused(), batches(), "classifier", dict(zip("abc", WIDTHS, strict=True)))
    assert named.names == ("a", "b", "c")
    one = Fused()
    by_name = audit(one, batches(), "classifier", dict(zip("rnt", WIDTHS, strict=True)))
    assert by_name.influence == audit(one, batches(), **WHERE).influence


class Votes(nn.Module):
    """A classifier for each modality, whose logits are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.n, self.t = (nn.Linear(2, 7) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.r(x[:, :2]) + self.n(x[:, 2:4]) + self.t(x[:, 4:])


CHAIN = [f"classifier.{i}" for i in range(3)]


@pytest.mark.parametrize(
    ("make", "where"),
    [
        pytest.param(Fused, WHERE, id="one module"),
        pytest.param(
            lambda: Fused(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7))),
            {"head": CHAIN, "splits": WIDTHS},
            id="a chain",
        ),
        pytest.param(
            Votes, {"head": {name: name for name in "rnt"}, "combine": "sum"}, id="branches"
        ),
    ],
)
def test_dynamo_is_not_loaded_for_an_audit(make, where, monkeypatch):
    asked = []

    def spied(name: str) -> None:
        """What loads Dynamo."""
        found = getattr(torch.compiler, name, None)
        if found is not None:
            monkeypatch.setattr(
                torch.compiler, name, lambda *given: asked.append(name) or found(*given)
            )

    spied("disable")
    spied("set_stance")
    model, data = make(), [(torch.randn(8, 6), torch.randint(7, (8,)))]
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch._dynamo")
        audit(model, data, **where)
        assert not asked
    audit(model, data, **where)
    assert asked  # the control
