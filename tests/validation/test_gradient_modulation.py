"""OGM-GE against the paper's definition, written again for two modalities in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers import Fused
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks.errors import ConfigError, ValidationError
from cmiei_hooks.training import noise_generator
from cmiei_hooks.validation.gradient_modulation import GradientModulation, coefficients

WIDTHS = [4, 3]
ALPHA = 0.5


def model_and_batch(strength: float = 3.0, widths: list[int] = WIDTHS):
    """The first modality is ahead."""
    torch.manual_seed(0)
    model = Fused(nn.Linear(sum(widths), 5), widths).double()
    x = torch.randn(16, 6, dtype=torch.float64)
    with torch.no_grad():
        model.classifier.weight[:, : widths[0]] *= strength
        y = model(x).argmax(-1)
        y[::4] = 0
    return model, x, y


def attached(
    model: nn.Module, widths: list[int] | None = WIDTHS, enhance: bool = False, **settings
):
    return cmiei_hooks.attach(
        model,
        settings.pop("head", "classifier"),
        widths,
        warmup_epochs=0,
        log=False,
        seed=3,
        strategy=lambda c, n: GradientModulation(c, n, ALPHA, enhance),
        **settings,
    )


@torch.no_grad()
def paper(model: Fused, x: Tensor, y: Tensor) -> tuple[float, float]:
    """The coefficients of audio and video in Peng et al. 2022, sample by sample."""
    w, b = model.classifier.weight, model.classifier.bias
    a, v = (encode(x) for encode in model.encoders)
    scores = []
    for features, weight in ((a, w[:, : WIDTHS[0]]), (v, w[:, WIDTHS[0] :])):
        score = 0.0
        for i in range(len(x)):
            logits = [float(weight[c] @ features[i] + b[c] / 2) for c in range(len(w))]
            score += math.exp(logits[y[i]]) / math.fsum(map(math.exp, logits))
        scores.append(score)
    rho_a, rho_v = scores[0] / scores[1], scores[1] / scores[0]
    k_a = 1 - math.tanh(ALPHA * rho_a) if rho_a > 1 else 1.0
    k_v = 1 - math.tanh(ALPHA * rho_v) if rho_v > 1 else 1.0
    return k_a, k_v


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("strength", [3.0, 0.2])
def test_every_gradient_of_an_encoder_is_scaled_as_in_the_paper(strength):
    model, x, y = model_and_batch(strength)
    plain = copy.deepcopy(model)
    cross_entropy(plain(x), y).backward()
    k = paper(model, x, y)
    assert min(k) < 0.7 < max(k) == 1
    handle = attached(model)
    loss = cross_entropy(model(x), y)
    loss.backward()
    for m in range(2):
        for ours, theirs in zip(
            model.encoders[m].parameters(), plain.encoders[m].parameters(), strict=True
        ):
            torch.testing.assert_close(ours.grad, theirs.grad * k[m])
    assert torch.equal(model.classifier.weight.grad, plain.classifier.weight.grad)
    assert torch.equal(loss, cross_entropy(plain(x), y))
    assert handle.metrics()["C_MIEI_Ratio"] == 0
    assert not model.classifier._forward_hooks


@pytest.mark.parametrize("loss", ["sum", "weights", "smoothing", "ignored"])
def test_the_labels_are_read_from_other_forms_of_cross_entropy(loss):
    model, x, y = model_and_batch()
    twin = copy.deepcopy(model)
    if loss == "ignored":
        y[3] = -100
    arguments = {
        "sum": {"reduction": "sum"},
        "weights": {"weight": torch.linspace(0.5, 2, 5).double()},
        "smoothing": {"label_smoothing": 0.1},
        "ignored": {},
    }[loss]
    attached(model)
    cross_entropy(model(x), y, **arguments).backward()
    cross_entropy(twin(x), y, **arguments).backward()
    known = y >= 0
    k = paper(model, x[known], y[known])
    torch.testing.assert_close(model.encoders[0].weight.grad, twin.encoders[0].weight.grad * k[0])


def test_the_noise_has_the_standard_deviation_of_the_gradient_of_the_features():
    model, x, y = model_and_batch()
    features = model.features(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model.classifier(features), y), features)
    k = paper(model, x, y)
    generator = noise_generator(torch.device("cpu"), 3, 0, "classifier", 0, "gradient", 0)
    expected = []
    for part, scale in zip(gradient.split(WIDTHS, 1), k, strict=True):
        noise = torch.empty(part.shape, dtype=part.dtype).normal_(generator=generator)
        expected.append(scale * part + part.std() * noise)
    seen = []
    held = model.features
    model.features = lambda x: (seen.append(held(x)), seen[-1].retain_grad(), seen[-1])[2]
    attached(model, enhance=True)
    cross_entropy(model(x), y).backward()
    torch.testing.assert_close(seen[0].grad, torch.cat(expected, 1))


def test_of_three_modalities_each_is_compared_with_the_mean_of_the_others():
    found = coefficients(torch.tensor([6.0, 2.0, 3.0], dtype=torch.float64), 0.3)
    assert found.tolist() == pytest.approx([1 - math.tanh(0.3 * 6 / 2.5), 1, 1])
    assert coefficients(torch.tensor([1.0, 0.0, 0.0]), 0.5).isfinite().all()
    assert coefficients(torch.ones(3), 0.5).tolist() == [1, 1, 1]


HEADS = {
    "chain": ["classifier.0", "classifier.1"],
    "sequential": "classifier",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("recompute", ["", "checkpoint", "reentrant"])
def test_a_head_that_is_not_one_linear_is_run_without_the_others(head, recompute):
    torch.manual_seed(0)
    model = Fused(nn.Sequential(nn.ReLU(), nn.Linear(7, 5)), WIDTHS).double()
    x = torch.randn(16, 6, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (16,))
    plain = copy.deepcopy(model)
    cross_entropy(plain(x), y).backward()
    linear, parts = plain.classifier[1], plain.features(x).relu().split(WIDTHS, 1)
    weights = linear.weight.split(WIDTHS, 1)
    alone = [f @ w.T + linear.bias / 2 for f, w in zip(parts, weights, strict=True)]
    scores = torch.stack([z.softmax(-1)[range(16), y].sum() for z in alone])
    k = coefficients(scores.detach(), ALPHA)
    attached(model, head=head)
    out = checkpoint(model, x, use_reentrant=recompute == "reentrant") if recompute else model(x)
    cross_entropy(out, y).backward()
    assert k.min() < 1
    for m in range(2):
        torch.testing.assert_close(
            model.encoders[m].weight.grad, plain.encoders[m].weight.grad * k[m]
        )


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_the_head_changes_nothing_in_batches_of_any_size(reentrant):
    """A recompute may be broken off inside the head, as soon as it has the saved tensors."""
    grads = []
    for recompute in (False, True):
        model, *_ = model_and_batch()
        head = model.classifier
        model.forward = lambda x, model=model, head=head, recompute=recompute: (
            checkpoint(head, model.features(x), use_reentrant=reentrant)
            if recompute
            else head(model.features(x))
        )
        attached(model, enhance=True)
        for size in (8, 12, 5):
            x, y = torch.randn(size, 6, dtype=torch.float64), torch.arange(size) % 5
            cross_entropy(model(x), y).backward()
        model.eval()
        assert model(torch.randn(3, 6, dtype=torch.float64)).shape == (3, 5)
        grads.append(gradients(model))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.filterwarnings("ignore:.*in a batch of one sample")
def test_one_sample_of_modalities_of_one_value_gets_no_noise():
    torch.manual_seed(0)
    model = Fused(nn.Linear(2, 5), [1, 1]).double()
    x, y = torch.randn(1, 6, dtype=torch.float64), torch.tensor([2])
    found = []
    for enhance in (False, True):
        model.zero_grad()
        handle = attached(model, [1, 1], enhance)
        cross_entropy(model(x), y).backward()
        handle.remove()
        found.append(gradients(model))
    assert all(a.isfinite().all() for a in found[0])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class TwoInputs(nn.Module):
    """A Linear on two tensors that nobody has concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(WIDTHS), 5)

    def forward(self, a: Tensor, v: Tensor) -> Tensor:
        return self.linear(torch.cat([a, v], 1))


def test_modalities_in_tensors_of_their_own():
    torch.manual_seed(0)
    model = Fused(TwoInputs(), WIDTHS).double()
    model.forward = lambda x: model.classifier(*(encode(x) for encode in model.encoders))
    x, y = torch.randn(16, 6, dtype=torch.float64), torch.randint(5, (16,))
    cross_entropy(model(x), y).backward()
    before = [encode.weight.grad.clone() for encode in model.encoders]
    model.zero_grad()
    where = {"a": 0, "v": 1}
    attached(model, None, modalities=where)
    cross_entropy(model(x), y).backward()
    ratios = [
        (encode.weight.grad / old).flatten()
        for encode, old in zip(model.encoders, before, strict=True)
    ]
    assert all(torch.allclose(ratio, ratio[0]) for ratio in ratios)
    assert sorted(float(ratio[0]) for ratio in ratios)[0] < 0.7
    assert max(float(ratio[0]) for ratio in ratios) == pytest.approx(1)


@pytest.mark.negative_control
def test_a_loss_of_something_else_is_refused_in_backward(golden):
    model, x, _ = model_and_batch()
    attached(model, output=lambda logits: logits.clone())
    with pytest.raises(ValidationError) as refusal:
        model(x).sum().backward()
    golden(refusal.value)


@pytest.mark.negative_control
def test_in_place_is_refused(golden):
    model, x, _ = model_and_batch()
    attached(model, inplace=True)
    with pytest.raises(ConfigError) as refusal:
        model(x)
    golden(refusal.value)
