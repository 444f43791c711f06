"""Under autocast: the operands rounded by hand are more exact than the head run again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cmiei_hooks import _torch
from cmiei_hooks.counterfactual.influence import estimate
from cmiei_hooks.counterfactual.linear import influence_of_linear
from cmiei_hooks.functional import counterfactual_influence
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

PARTITION = Partition((8, 8, 8), ("r", "n", "t"))
HALF = pytest.mark.skipif(
    not hasattr(torch, "get_autocast_dtype"),
    reason="before torch 2.4 autocast on the CPU has no float16",
)


def head_of(*links: nn.Module, drop: str = "zero") -> Head:
    names = tuple(f"link{i}" for i in range(len(links)))
    return Head(names, links, PARTITION, (None,) * len(links), drop, "kl")


def features(dtype: torch.dtype = torch.float32) -> Tensor:
    return (4 * torch.randn(16, 24)).to(dtype)


def fast(head: Head, x: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor | None:
    with torch.autocast("cpu", dtype=dtype):
        return influence_of_linear(head, PARTITION.read((x,), {}))


def run_again(head: Head, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return estimate(head, PARTITION.read((x,), {})).influence


def rounded(operand: Tensor) -> Tensor:
    return operand.detach().bfloat16().double()


def in_float64(linear: nn.Linear, x: Tensor, drop: str) -> Tensor:
    """The definition, from operands that autocast has rounded, and nothing rounded after them."""
    w, b = rounded(linear.weight), rounded(linear.bias)
    z = rounded(x) @ w.T + b
    left = []
    for m in range(3):
        changed = rounded(x)
        columns = slice(8 * m, 8 * m + 8)
        mean = x.double().mean(0)[columns].to(x.dtype)
        changed[:, columns] = rounded(mean) if drop == "mean" else 0
        left.append(changed @ w.T + b)
    return counterfactual_influence(z, torch.stack(left))


@pytest.mark.parametrize("drop", ["zero", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_the_influence_of_the_rounded_operands(dtype, drop):
    linear, x = nn.Linear(24, 50), features(dtype)
    exact = in_float64(linear, x, drop)
    got, again = fast(head_of(linear, drop=drop), x), run_again(head_of(linear, drop=drop), x)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-6)
    # What the head returns is rounded once more: the two agree to the digits of bfloat16.
    torch.testing.assert_close(got, again, rtol=0.1, atol=0.02)
    assert (got - exact).abs().max() < (again - exact).abs().max() / 100


def test_behind_a_norm_it_is_that_of_the_head_run_again():
    links = [nn.BatchNorm1d(24), nn.Linear(24, 50)]
    x, before = features(), links[0].running_mean.clone()
    got, again = fast(head_of(*links), x), run_again(head_of(*links), x)
    torch.testing.assert_close(got, again, rtol=0.1, atol=0.02)
    assert torch.equal(links[0].running_mean, before)


def test_a_modality_that_adds_nothing_has_influence_exactly_zero():
    x = features()
    x[:, 8:16] = 0
    got = fast(head_of(nn.Linear(24, 50)), x)
    assert (got[:, 1] == 0).all()
    assert (got[:, [0, 2]] > 0).all()


def test_a_class_that_the_bias_masks_is_left_out():
    linear, x = nn.Linear(24, 50), features()
    linear.bias.data[3] = -torch.inf
    others = nn.Linear(24, 49)
    kept = [c for c in range(50) if c != 3]
    others.weight.data, others.bias.data = linear.weight.data[kept], linear.bias.data[kept]
    torch.testing.assert_close(fast(head_of(linear), x), fast(head_of(others), x))


def test_the_weights_that_autocast_keeps_are_those_of_training():
    """The forward that follows must record its gradient, whatever the estimate has rounded."""
    linear, x = nn.Linear(24, 50), features()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        influence_of_linear(head_of(linear), PARTITION.read((x,), {}))
        assert _torch.in_autocast("cpu")
        loss = linear(x).float().square().mean()
    loss.backward()
    assert linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("head", "dtype", "rounding"),
    [
        pytest.param(nn.Linear(24, 50), torch.float32, torch.float16, marks=HALF),
        (nn.Linear(24, 50).double(), torch.float64, torch.bfloat16),
        (nn.Linear(24, 50).bfloat16(), torch.bfloat16, torch.bfloat16),
        (
            nn.Sequential(nn.Linear(24, 9), nn.ReLU(), nn.Linear(9, 50)),
            torch.float32,
            torch.bfloat16,
        ),
    ],
    ids=["float16", "float64", "weights in bfloat16", "an MLP"],
)
def test_anything_else_under_autocast_is_left_to_the_general_path(head, dtype, rounding):
    assert fast(head_of(head), features(dtype), rounding) is None


def test_the_type_of_autocast_is_that_of_torch():
    assert _torch.autocast_dtype("cpu") is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _torch.autocast_dtype("cpu") == torch.bfloat16
        assert _torch.autocast_dtype("cuda") is None


@HALF
def test_another_type_of_autocast_is_told():
    with torch.autocast("cpu", dtype=torch.float16):
        assert _torch.autocast_dtype("cpu") == torch.float16
