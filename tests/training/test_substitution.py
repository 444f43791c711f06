"""The substituted input of a call, against the formula written by hand in float64."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from cmiei_hooks import Config
from cmiei_hooks.fusion import Captured, Partition
from cmiei_hooks.training.substitution import noise_generator, substituted

CONFIG = Config(sigma=0.3)
chosen = torch.tensor([0, -1, 1, 2, 1, -1])
NAMES = ("r", "n", "t")


def generator() -> torch.Generator:
    return noise_generator(torch.device("cpu"), 7)


def by_hand(features: Tensor, rows: Tensor, noise: Tensor) -> Tensor:
    new = features.double().clone()
    new[rows] = features.double().mean(0) + CONFIG.sigma * noise.double()[rows]
    return new


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one.double(), other.double(), rtol=1e-6, atol=1e-6)


def test_each_sample_has_the_numbers_of_its_row_whichever_modality_is_chosen():
    widths = (2, 5, 3)
    features = torch.randn(6, 10)
    captured = Partition(widths, NAMES).read((features,), {})
    (new,) = substituted(captured, chosen, CONFIG, generator()).values()
    noise = torch.empty(6, max(widths)).normal_(generator=generator())
    parts = zip(features.split(widths, 1), new.split(widths, 1), strict=True)
    for m, (before, after) in enumerate(parts):
        close(after, by_hand(before, chosen == m, noise[:, : before.shape[1]]))
        assert torch.equal(after[chosen != m], before[chosen != m])


def test_columns_of_no_modality_stay_and_shared_blocks_are_replaced_for_either():
    features = torch.randn(6, 12)
    splits = (((1, 3), (5, 8)), ((3, 4), (5, 8)), ((9, 11),))
    captured = Partition(splits, NAMES).read((features,), {})
    (new,) = substituted(captured, chosen, CONFIG, generator()).values()
    noise = torch.empty(6, 5).normal_(generator=generator())
    expected = features.double()
    for m, blocks in enumerate(splits):
        used = 0
        for start, stop in blocks:
            rows = chosen == m
            own = noise[:, used : used + stop - start]
            part = by_hand(features[:, start:stop], rows, own)
            expected[rows, start:stop] = part[rows]
            used += stop - start
    close(new, expected)
    others = [0, 4, 8, 11]
    assert torch.equal(new[:, others], features[:, others])


def test_tensors_of_other_types_and_shapes_draw_numbers_of_their_type():
    call = (torch.randn(6, 2, 3), torch.randn(6, 4, dtype=torch.float64), torch.randn(6))
    captured = Partition(((0,), (1,), (2,)), NAMES).read(call, {})
    new = substituted(captured, chosen, CONFIG, generator())
    draw = generator()
    singles = torch.empty(6, 6).normal_(generator=draw)
    doubles = torch.empty(6, 4, dtype=torch.float64).normal_(generator=draw)
    noise = (singles.view(6, 2, 3), doubles, singles[:, 0])
    for m, after in enumerate(new.values()):
        assert (after.dtype, after.shape) == (call[m].dtype, call[m].shape)
        close(after, by_hand(call[m], chosen == m, noise[m]))


@pytest.mark.parametrize("layout", ["transposed", "channels last", "expanded"])
def test_the_new_tensor_has_the_strides_of_a_clone(layout):
    features = {
        "transposed": torch.randn(10, 6).T,
        "channels last": torch.randn(6, 10, 2, 2).to(memory_format=torch.channels_last),
        "expanded": torch.randn(6, 10, 1).expand(6, 10, 3),
    }[layout]
    captured = Partition((2, 5, 3), NAMES, dim=1).read((features,), {})
    (new,) = substituted(captured, chosen, CONFIG, generator()).values()
    assert new.stride() == features.clone().stride()
    assert torch.equal(new[chosen < 0], features[chosen < 0])


def test_gradients_are_those_of_the_formula():
    features = torch.randn(6, 10, dtype=torch.float64, requires_grad=True)
    captured = Partition((2, 5, 3), NAMES).read((features,), {})
    weights = torch.randn(6, 10, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        call = Partition((2, 5, 3), NAMES).read((x,), {})
        (new,) = substituted(call, chosen, CONFIG, generator()).values()
        return (new * weights).sum()

    (new,) = substituted(captured, chosen, CONFIG, generator()).values()
    (new * weights).sum().backward()
    expected = weights.clone()
    for m, (start, stop) in enumerate([(0, 2), (2, 7), (7, 10)]):
        rows = chosen == m
        expected[rows, start:stop] = 0
        expected[:, start:stop] += weights[rows, start:stop].sum(0) / 6  # through the mean
    torch.testing.assert_close(features.grad, expected)
    assert torch.autograd.gradcheck(function, features)


def test_noise_in_units_of_the_spread_is_scaled_by_each_features_own_standard_deviation():
    scales = torch.logspace(-3, 4, 10)
    features = torch.randn(6, 10) * scales + 100 * scales
    features.requires_grad_()
    captured = Partition((2, 5, 3), NAMES).read((features,), {})
    config = Config(sigma=0.3, sigma_unit="std")
    (new,) = substituted(captured, chosen, config, generator()).values()
    noise = torch.empty(6, 5).normal_(generator=generator())
    x = features.detach().double()
    spread = (x - x.mean(0)).square().mean(0).sqrt()
    for m, (start, stop) in enumerate([(0, 2), (2, 7), (7, 10)]):
        own = x[:, start:stop]
        numbers = 0.3 * spread[start:stop] * noise[:, : stop - start].double()
        expected = torch.where((chosen == m)[:, None], own.mean(0) + numbers, own)
        found = new[:, start:stop].double()
        assert ((found - expected).abs() / spread[start:stop]).max() < 1e-4
    (gradient,) = torch.autograd.grad(new[chosen >= 0].sum(), features)
    # The spread is a constant: only the mean has a gradient, and the kept modalities.
    assert gradient.sum().item() == pytest.approx(40, rel=1e-5)


def one_after_the_other(captured: Captured, chosen: Tensor, config: Config) -> Tensor:
    """The substitution without the way for equally wide modalities."""
    apart = dataclasses.replace(captured, groups=tuple(reversed(captured.groups)))
    assert apart.blocks is None
    mirrored = torch.where(chosen < 0, chosen, len(apart.groups) - 1 - chosen)
    (new,) = substituted(apart, mirrored, config, generator()).values()
    return new


@pytest.mark.parametrize("unit", ["feature", "std"])
@pytest.mark.parametrize("broken", [False, True])
def test_equally_wide_modalities_at_once_are_the_same_as_one_after_the_other(unit, broken):
    config = Config(sigma=0.3, sigma_unit=unit)
    features = torch.randn(6, 12, dtype=torch.float64)
    if broken:  # in one modality of one sample: the mean of the others keeps that sample
        features[1, 5] = math.inf
    leaf = features.requires_grad_()
    captured = Partition((4, 4, 4), NAMES).read((leaf,), {})
    assert captured.blocks is not None
    (new,) = substituted(captured, chosen, config, generator()).values()
    expected = one_after_the_other(captured, chosen, config)
    torch.testing.assert_close(new, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(new)
    (got,) = torch.autograd.grad(new, leaf, weights)
    (wanted,) = torch.autograd.grad(expected, leaf, weights)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_several_modalities_of_a_sample_have_numbers_of_their_own():
    features = torch.randn(6, 12)
    captured = Partition((4, 4, 4), NAMES).read((features,), {})
    several = torch.tensor(
        [[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]]
    ).bool()
    (new,) = substituted(captured, several, CONFIG, generator()).values()
    noise = torch.empty(6, 12).normal_(generator=generator())
    parts = zip(features.split(4, 1), new.split(4, 1), noise.split(4, 1), strict=True)
    for m, (before, after, own) in enumerate(parts):
        close(after, by_hand(before, several[:, m], own))


@pytest.mark.parametrize(
    ("splits", "features"),
    [
        ((4, 5, 3), torch.zeros(6, 12)),
        ((4, 4, 4), torch.zeros(6, 2, 12)),
        ((((0, 4),), ((4, 8),)), torch.zeros(6, 12)),
        ((((4, 8),), ((0, 4),), ((8, 12),)), torch.zeros(6, 12)),
        ((((0, 2), (2, 4)), ((4, 8),), ((8, 12),)), torch.zeros(6, 12)),
    ],
    ids=["widths", "axes", "columns of no modality", "order", "two blocks of a modality"],
)
def test_other_modalities_are_not_taken_for_equally_wide_neighbours(splits, features):
    assert Partition(splits, NAMES[: len(splits)]).read((features,), {}).blocks is None
