"""The head is run again apart from its model: in the same way, or the report says otherwise."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from cmiei_hooks import CMIEIWarning, audit
from cmiei_hooks.auditing import observer
from cmiei_hooks.errors import HeadError

WHERE = {"head": "classifier", "splits": WIDTHS}


def batches(count: int = 4, size: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(count * size, 6, generator=generator).split(size))


def plain(model: Fused) -> Fused:
    """The same with the weight that its hooks compute."""
    same = Fused(nn.Linear(12, 7))
    model.eval()(batches()[0])
    state = {k: v for k, v in model.state_dict().items() if k.startswith("encoders")}
    state |= {
        "classifier.weight": model.classifier.weight,
        "classifier.bias": model.classifier.bias,
    }
    same.load_state_dict(state)
    return same


def means(values: dict) -> list[float]:
    return [interval.mean for interval in values.values()]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "hook", [weight_norm, spectral_norm, lambda m: prune.l1_unstructured(m, "weight", 0.3)]
)
def test_weights_that_torch_computes_before_a_call(tmp_path, hook):
    torch.manual_seed(0)
    model = Fused()
    hook(model.classifier)
    report = audit(model, batches(), **WHERE, save_features=tmp_path / "f.pt")
    expected = audit(plain(model), batches(), **WHERE)
    for name in ("zero", "mean", "permuted"):
        got = means(report.baselines[name])
        assert got == pytest.approx(means(expected.baselines[name]), rel=1e-4)
    assert not report.notes
    with torch.no_grad():
        model.classifier.weight = model.classifier.weight * 0  # what another checkpoint would leave
    again = audit(model, None, **WHERE, features=tmp_path / "f.pt")
    assert again.baselines == report.baselines
    assert again.influence == report.influence


class Steered(Fused):
    """Says by an attribute what the head is to do with the batch."""

    def __init__(self) -> None:
        super().__init__(Scaled())

    def forward(self, x: Tensor) -> Tensor:
        self.classifier.scale = x[0, 0].item()
        return super().forward(x)


class Scaled(nn.Linear):
    def __init__(self) -> None:
        super().__init__(12, 7)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def test_a_head_that_does_something_else_apart_from_its_model(golden):
    model = Steered()
    with pytest.warns(CMIEIWarning) as caught:
        report = audit(model, batches(), **WHERE)
    golden(caught[0].message)
    assert list(report.baselines) == ["zero"]
    assert report.agreement == ()
    assert report.to_dict()["baselines"].keys() == {"zero"}
    with pytest.raises(HeadError) as error:
        audit(model, batches(), **WHERE, drop="mean")
    golden(error.value)
    assert model.classifier.scale == 1.0


@pytest.mark.negative_control
def test_that_head_with_one_setting_for_all_batches_is_measured():
    class Constant(Steered):
        def forward(self, x: Tensor) -> Tensor:
            self.classifier.scale = 2.0
            return Fused.forward(self, x)

    report = audit(Constant(), batches(), **WHERE)
    assert list(report.baselines) == ["zero", "mean", "permuted"]
    assert not report.notes


class Guarded(Fused):
    """As FSDP: outside of the model's call the head has no weights."""

    def __init__(self) -> None:
        super().__init__(OnlyInside())

    def forward(self, x: Tensor) -> Tensor:
        self.classifier.inside = True
        try:
            return super().forward(x)
        finally:
            self.classifier.inside = False


class OnlyInside(nn.Linear):
    def __init__(self) -> None:
        super().__init__(12, 7)
        self.inside = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.inside:
            raise RuntimeError("the weights are not here")
        return super().forward(x)


def test_a_head_that_cannot_run_apart_from_its_model_has_the_baseline_zero():
    with pytest.warns(CMIEIWarning, match="the weights are not here"):
        report = audit(Guarded(), batches(), **WHERE)
    assert list(report.baselines) == ["zero"]
    assert report.n_samples == 12


class InAutocast(Fused):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class WithoutAutocast(Fused):
    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x).float()
        with torch.autocast("cpu", enabled=False):
            return self.classifier(features)


@pytest.mark.parametrize(("kind", "amp"), [(InAutocast, False), (WithoutAutocast, True)])
def test_the_autocast_of_the_model_holds_when_the_head_runs_again(kind, amp):
    report = audit(kind(), batches(), **WHERE, amp=amp)
    assert list(report.baselines) == ["zero", "mean", "permuted"]
    assert not report.notes


def test_hooks_of_the_users_do_not_run_more_often():
    model, calls = Fused(), []
    model.classifier.register_forward_hook(lambda *_: calls.append(1))
    model.classifier.register_forward_pre_hook(lambda *_: calls.append(2))
    audit(model, batches(), **WHERE)
    assert calls == [2, 1] * 4


def test_the_memory_for_calls_that_wait_has_a_limit(monkeypatch, golden):
    model, data = Fused(), batches(8, 6)
    whole = audit(model, data, **WHERE)
    monkeypatch.setattr(observer, "_MOST_BYTES", 12 * 12 * 4)
    with pytest.warns(CMIEIWarning) as caught:
        report = audit(model, data, **WHERE)
    golden(caught[0].message)
    assert report.influence == whole.influence
    assert report.n_samples == 48
    with torch.no_grad():
        mean = model.features(torch.cat(data[:3])).mean(0)
    assert means(report.baselines["mean"]) == pytest.approx(by_hand(model, data, mean), rel=1e-4)
    with pytest.warns(CMIEIWarning):
        dropped = audit(model, data, **WHERE, drop="mean")
    assert means(dropped.influence) == pytest.approx(means(report.baselines["mean"]))


def by_hand(model: Fused, data: list[Tensor], mean: Tensor) -> list[float]:
    from cmiei_hooks.functional import counterfactual_influence

    with torch.no_grad():
        features = model.features(torch.cat(data))
        z, without, start = model.classifier(features), [], 0
        for width in WIDTHS:
            changed = features.clone()
            changed[:, start : start + width] = mean[start : start + width]
            without.append(model.classifier(changed))
            start += width
    return counterfactual_influence(z, torch.stack(without)).mean(0).tolist()


class Random(Fused):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x) + torch.randn(len(x), 12))


class RandomHead(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


@pytest.mark.parametrize("model", [Random(), Fused(RandomHead(12, 7))])
def test_models_that_draw_are_measured_with_all_baselines(model):
    with pytest.warns(CMIEIWarning, match="draws random numbers"):
        report = audit(model, batches(), **WHERE)
    assert list(report.baselines) == ["zero", "mean", "permuted"]
    assert len(report.notes) == 1


@pytest.mark.parametrize("squeezes", [False, True])
def test_zero_in_batches_of_one_is_that_of_one_batch(squeezes):
    class Squeezing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            z = super().forward(x)
            return z.squeeze(0) if squeezes else z

    torch.manual_seed(0)
    model = Fused(Squeezing(nn.BatchNorm1d(12), nn.Linear(12, 7)))
    for _ in range(3):
        model.classifier(torch.randn(8, 12) * 3 + 1)
    data = torch.cat(batches())
    one = audit(model, data.split(1), **WHERE)
    assert means(one.influence) == pytest.approx(
        means(audit(model, [data], **WHERE).influence), rel=1e-5
    )


class Twice(Fused):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x + 1)


def test_every_call_of_the_head_counts():
    model, data = Twice(), batches()
    report = audit(model, data, **WHERE)
    assert report.n_samples == 24
    both = audit(plain(model), [x + shift for x in data for shift in (0, 1)], **WHERE)
    assert means(report.baselines["mean"]) == pytest.approx(means(both.baselines["mean"]))
