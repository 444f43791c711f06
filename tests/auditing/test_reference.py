"""The mean of all samples and the other samples, whatever the loader puts into one batch."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

from cmiei_hooks import CMIEIError, CMIEIWarning, audit
from cmiei_hooks.auditing import reference
from cmiei_hooks.auditing.reference import Pooled, Reference
from cmiei_hooks.functional import counterfactual_influence
from cmiei_hooks.fusion.partition import Partition

WHERE = {"head": "classifier", "splits": WIDTHS}
PARTITION = Partition(tuple(WIDTHS), ("r", "n", "t"))
BLOCKS = [slice(0, 4), slice(4, 7), slice(7, 12)]
SAMPLES = 48


@pytest.fixture(scope="module")
def classes() -> Tensor:
    return torch.arange(SAMPLES) % 7


@pytest.fixture(scope="module")
def data(classes) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SAMPLES, 6, generator=generator) + classes[:, None]


def order_of(kind: str, classes: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    kinds = {
        "as it is": torch.arange(SAMPLES),
        "sorted": classes.argsort(stable=True),
        "shuffled": torch.randperm(SAMPLES, generator=generator),
    }
    return kinds[kind]


def normed() -> Fused:
    torch.manual_seed(0)
    model = Fused(nn.Sequential(nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7)))
    for _ in range(3):
        model(torch.randn(32, 6) + 3)
    return model.eval()


def influences(model: Fused, x: Tensor, other: Tensor) -> Tensor:
    """With each modality replaced by that of other features, by hand."""
    with torch.no_grad():
        features = model.features(x)
        z, without = model.classifier(features), []
        for block in BLOCKS:
            changed = features.clone()
            changed[:, block] = other[:, block]
            without.append(model.classifier(changed))
    return counterfactual_influence(z, torch.stack(without))


def values(intervals: dict) -> list[float]:
    return [interval.mean for interval in intervals.values()]


@pytest.mark.parametrize(
    ("order", "size"),
    [
        ("as it is", SAMPLES),
        ("as it is", 7),
        ("sorted", 1),
        ("sorted", 32),
        ("shuffled", 7),
        ("shuffled", 32),
    ],
)
def test_baselines_do_not_depend_on_the_loader(data, classes, size, order):
    model, chosen = normed(), order_of(order, classes)
    batches = data[chosen].split(size)
    report = audit(model, batches, **WHERE)
    dropped = audit(model, batches, **WHERE, drop="mean")
    with torch.no_grad():
        features = model.features(data)
    mean = influences(model, data, features.mean(0).expand_as(features)).mean(0).tolist()
    zero = influences(model, data, torch.zeros_like(features)).mean(0).tolist()
    assert values(report.influence) == pytest.approx(zero, abs=1e-6)
    assert values(report.baselines["mean"]) == pytest.approx(mean, abs=1e-6)
    assert values(dropped.influence) == pytest.approx(mean, abs=1e-6)
    assert values(dropped.baselines["zero"]) == pytest.approx(zero, abs=1e-6)
    whole = audit(model, [data[chosen]], **WHERE)
    permuted = values(whole.baselines["permuted"])
    assert values(report.baselines["permuted"]) == pytest.approx(permuted, abs=1e-6)
    expected = torch.stack(
        [influences(model, data, features.roll(shift, 0)).mean(0) for shift in range(1, SAMPLES)]
    ).mean(0)
    # One other sample for each of 48: the mean over all others is met within chance.
    assert permuted == pytest.approx(expected.tolist(), rel=0.35)


@pytest.mark.negative_control
def test_the_means_of_batches_would_give_other_values(data, classes):
    model, chosen = normed(), order_of("sorted", classes)
    with torch.no_grad():
        features = model.features(data[chosen])
    means = torch.cat([f.mean(0).expand_as(f) for f in features.split(7)])
    of_batches = influences(model, data[chosen], means).mean(0)
    of_all = influences(model, data[chosen], features.mean(0).expand_as(features)).mean(0)
    assert (of_batches < 0.7 * of_all).all()
    own = influences(model, data, model.features(data))  # the mean of a batch of one
    assert not own.any()


def pooled(sizes: list[int], usable: Tensor | None = None) -> list[Pooled]:
    rows = torch.arange(float(sum(sizes)))[:, None].expand(-1, 12)
    known = torch.ones(len(rows), dtype=torch.bool) if usable is None else usable
    parts = zip(rows.split(sizes), known.split(sizes), strict=True)
    return [Pooled(number, {(0,): x}, ok) for number, (x, ok) in enumerate(parts)]


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12])
def test_every_sample_gets_another_one_which_depends_on_its_number_alone(sizes):
    calls = pooled(sizes)
    found = Reference(calls, 3, everywhere=False)
    got = []
    for call, others in zip(calls, found.others, strict=True):
        captured = PARTITION.read((call.tensors[0,],), {})
        got += found.other(captured, others)[0,][:, 0].tolist()
        assert torch.equal(found.mean(captured)[0,], torch.full_like(call.tensors[0,], 5.5))
    assert sorted(got) == list(range(12))
    assert all(other != own for own, other in enumerate(got))
    whole = Reference(pooled([12]), 3, everywhere=False)
    captured = PARTITION.read((pooled([12])[0].tensors[0,],), {})
    assert got == whole.other(captured, whole.others[0])[0,][:, 0].tolist()
    other_seed = Reference(pooled([12]), 4, everywhere=False)
    assert got != other_seed.other(captured, other_seed.others[0])[0,][:, 0].tolist()


def test_a_small_pool_is_used_again_and_never_gives_a_sample_itself(monkeypatch):
    monkeypatch.setattr(reference, "_LARGEST", (3, 2**26))
    (call,) = pooled([20])
    found = Reference([call], 0, everywhere=False)
    got = found.other(PARTITION.read((call.tensors[0,],), {}), found.others[0])[0,][:, 0].tolist()
    assert len(set(got)) == 3
    assert all(other != own for own, other in enumerate(got))


def test_broken_samples_do_not_break_others():
    usable = torch.arange(12) != 4
    (call,) = pooled([12], usable)
    found = Reference([call], 0, everywhere=False)
    captured = PARTITION.read((call.tensors[0,],), {})
    got = found.other(captured, found.others[0])[0,][usable][:, 0].tolist()
    assert 4 not in got
    assert found.mean(captured)[0,][0, 0].item() == pytest.approx((66 - 4) / 11)


def test_a_sample_with_nan_is_no_other_sample():
    model, x = Fused(), torch.randn(16, 6)
    clean = audit(model, [x[1:]], **WHERE)
    x[0] = math.nan
    report = audit(model, x.split(1), **WHERE)
    assert values(report.baselines["mean"]) == pytest.approx(
        values(clean.baselines["mean"]), rel=1e-5
    )
    assert all(math.isfinite(value) for value in values(report.baselines["permuted"]))


class Pooling(nn.Module):
    """Sequences of three widths, of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = PooledHead()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)


class PooledHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(1))


def test_samples_are_replaced_by_those_of_their_own_shape_and_single_ones_are_named(golden):
    lengths = [4, 5, 4, 5, 6]
    batches = [torch.randn(1, length, 12) for length in lengths]
    model = Pooling()
    with pytest.warns(CMIEIWarning) as caught:
        report = audit(model, batches, **WHERE)
    golden(caught[0].message)
    total = torch.zeros(3)
    for a, b in ((0, 2), (2, 0), (1, 3), (3, 1)):
        x, z, mean = batches[a], model(batches[a]), (batches[a] + batches[b]) / 2
        for m, block in enumerate(BLOCKS):
            changed = x.clone()
            changed[..., block] = mean[..., block]
            total[m] += counterfactual_influence(z, model(changed)[None]).item() / 4
    assert values(report.baselines["mean"]) == pytest.approx(total.tolist(), rel=1e-4)
    assert report.baselines["zero"] == report.influence  # of all five
    with pytest.raises(CMIEIError) as error:
        audit(model, batches, **WHERE, drop="mean")
    golden(error.value)


def test_one_sample_has_no_mean_to_be_replaced_by(golden):
    with pytest.warns(CMIEIWarning, match="unknown for 1 of 1"):
        report = audit(Fused(), [torch.randn(1, 6)], **WHERE)
    assert report.to_dict()["baselines"]["mean"]["r"] == {"mean": None, "low": None, "high": None}
    with pytest.raises(CMIEIError) as error:
        audit(Fused(), [torch.randn(1, 6)], **WHERE, drop="mean")
    golden(error.value)
