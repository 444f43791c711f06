"""Coalitions, baselines and the permutation null, against the head run by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

from cmiei_hooks import audit
from cmiei_hooks.auditing.samples import NULL_DRAWS, Logits, influence_of, observe
from cmiei_hooks.functional import counterfactual_influence
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

WHERE = {"head": "classifier", "splits": WIDTHS}
PARTITION = Partition(tuple(WIDTHS), ("r", "n", "t"))
BLOCKS = [slice(0, 4), slice(4, 7), slice(7, 12)]


def observed(module: nn.Module, features: Tensor, drop: str = "zero", seed: int = 0):
    head = Head(("head",), (module,), PARTITION, (None,), drop, "kl")
    mean = {(0,): features.mean(0).expand_as(features)}
    captured = PARTITION.read((features,), {})
    return observe(head, captured, batch=0, seed=seed, drop=mean if drop == "mean" else None)


@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_every_coalition_is_that_of_the_head_run_by_hand(drop):
    module, x = nn.Linear(12, 7), torch.randn(16, 12) + 0.3
    found = observed(module, x, drop)
    z = module(x).detach()
    for kept in itertools.product([0, 1], repeat=3):
        changed = x.clone()
        for m, keep in enumerate(kept):
            if not keep:
                changed[:, BLOCKS[m]] = 0 if drop == "zero" else x[:, BLOCKS[m]].mean(0)
        column = sum(keep << m for m, keep in enumerate(kept))
        logits = module(changed).detach()
        expected = counterfactual_influence(z, logits[None])[:, 0]
        torch.testing.assert_close(found.divergence[:, column], expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.predicted[:, column], logits.argmax(1))
    assert torch.equal(found.divergence[:, -1], torch.zeros(16))
    singles = [0b110, 0b101, 0b011]
    torch.testing.assert_close(found.divergence[:, singles], found.influence)


def test_the_influence_with_other_tensors_is_that_of_the_head_run_by_hand():
    module, x = nn.Linear(12, 7), torch.randn(16, 12)
    head = Head(("head",), (module,), PARTITION, (None,), "zero", "kl")
    captured = PARTITION.read((x,), {})
    other = torch.randn(16, 12)
    logits, (zero, instead) = influence_of(head, captured, [None, {(0,): other}])
    assert torch.equal(zero, observed(module, x).influence)
    assert logits.agree(Logits.of(module(x).detach()))
    for m, block in enumerate(BLOCKS):
        changed = x.clone()
        changed[:, block] = other[:, block]
        z, without = module(x).detach(), module(changed).detach()
        expected = counterfactual_influence(z, without[None])[:, 0]
        torch.testing.assert_close(instead[:, m], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_kept_of_logits(broken):
    z = torch.randn(5, 4)
    z[1, 2], z[2, 1], z[3] = broken, -math.inf, -math.inf
    kept = Logits.of(z)
    assert kept.usable.tolist() == [True, False, True, False, True]
    assert kept.agree(Logits.of(z * (1 + 1e-5)))
    assert not kept.agree(Logits.of(z * 1.1))
    assert not kept.probabilities.any()
    assert Logits.of(z[[0]].softmax(1)).probabilities.all()


def test_the_null_shuffles_the_columns_of_one_modality():
    module, x = nn.Linear(12, 7), torch.randn(16, 12)
    found = observed(module, x)
    assert found.null.shape == (16, 3, NULL_DRAWS)
    possible = []
    dropped = x.clone()
    dropped[:, BLOCKS[1]] = 0
    reference = module(dropped).detach()
    for order in itertools.permutations([4, 5, 6]):
        changed = x.clone()
        changed[:, BLOCKS[1]] = x[:, list(order)]
        possible.append(counterfactual_influence(module(changed).detach(), reference[None])[:, 0])
    for draw in range(NULL_DRAWS):
        got = found.null[:, 1, draw]
        assert any(torch.allclose(got, one, rtol=1e-3, atol=1e-6) for one in possible)
    assert len({tuple(found.null[:, 1, d].tolist()) for d in range(NULL_DRAWS)}) > 2
    assert torch.equal(observed(module, x).null, found.null)
    assert not torch.equal(observed(module, x, seed=1).null, found.null)


def p_values(scale: float) -> list[float]:
    """Of modality r, over heads with random weights; ``scale``: how far r's are aligned with x."""
    values = []
    for seed in range(40):
        torch.manual_seed(seed)
        model = Fused(widths=[8, 3, 5])
        x = torch.randn(64, 6)
        features = model.features(x).detach()[:, :8]
        direction = torch.linalg.svd(features - features.mean(0))[2][0]
        with torch.no_grad():
            model.classifier.weight[:, :8] += scale * torch.randn(7, 1) * direction
        report = audit(model, [x], head="classifier", splits=[8, 3, 5])
        values.append(report.null["r"]["p"])
    return values


@pytest.mark.slow
def test_p_is_about_uniform_for_random_weights_and_small_for_learned_ones():
    chance = torch.tensor(p_values(0.0))
    # 40 draws: the mean of a uniform has a standard error of 0.046
    assert abs(chance.mean() - 0.525) < 0.15
    assert 0.0 <= (chance <= 0.1).float().mean() < 0.3
    assert torch.tensor(p_values(3.0)).mean() < 0.15


def test_equal_blocks_have_equal_shapley_values_and_they_add_up():
    torch.manual_seed(1)
    model = Fused(widths=[4, 4, 4])
    with torch.no_grad():
        model.classifier.weight[:, 4:8] = model.classifier.weight[:, :4]
        for part in ("weight", "bias"):
            getattr(model.encoders[1], part).copy_(getattr(model.encoders[0], part))
    label = torch.randint(7, (32,))
    report = audit(model, [(torch.randn(32, 6), label)], head="classifier", splits=[4, 4, 4])
    assert report.shapley["r"].mean == pytest.approx(report.shapley["n"].mean, rel=1e-6)
    assert report.shapley["r"].mean != pytest.approx(report.shapley["t"].mean, rel=1e-2)
    total = sum(figure.mean for figure in report.shapley.values())
    assert total == pytest.approx(report.shapley_total.mean, rel=1e-6)
    constant = model.classifier.bias.argmax()
    gain = report.accuracy.mean - (label == constant).double().mean().item()
    assert sum(f.mean for f in report.shapley_accuracy.values()) == pytest.approx(gain, abs=1e-9)


def test_more_than_eight_modalities_have_no_coalitions():
    model = Fused(widths=[1] * 9)
    data = [(torch.randn(8, 6), torch.randint(7, (8,)))]
    report = audit(model, data, head="classifier", splits=[1] * 9)
    assert report.shapley is None
    assert report.accuracy_alone is None
    without = model.features(data[0][0]).detach()
    without[:, 0] = 0
    right = (model.classifier(without).argmax(1) == data[0][1]).double().mean().item()
    assert report.accuracy_without["m0"].mean == pytest.approx(right)


def test_the_null_is_that_of_the_first_samples():
    torch.manual_seed(0)
    model, x = Fused(), torch.randn(600, 6)
    report = audit(model, list(x.split(100)), **WHERE)
    first = audit(model, list(x[:300].split(100)), **WHERE)
    assert report.null == first.null
    assert report.null["r"]["n"] == 300
    assert report.n_samples == 600
    for name, null in report.null.items():
        assert null["influence"] == pytest.approx(first.influence[name].mean)
        assert null["influence"] != pytest.approx(report.influence[name].mean, rel=1e-4)


def test_maps_are_shuffled_over_their_channels_and_one_column_is_not_shuffled():
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.mean((2, 3)))

    partition = Partition((8, 3, 1), ("r", "n", "t"), 1)
    head = Head(("head",), (Pool(),), partition, (None,), "zero", "kl")
    x = torch.randn(16, 12, 4, 5) + torch.arange(12.0).view(-1, 1, 1)
    found = observe(head, partition.read((x,), {}), batch=0, seed=0)
    assert (found.null[:, 0] - found.influence[:, :1]).abs().max() > 0.01
    assert found.null[:, 2].isnan().all()
