"""Shapley values and interactions against their definitions by permutations."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cmiei_hooks import CMIEIError
from cmiei_hooks.auditing.shapley import interactions, shapley

games = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))  # M, N, seed


def values_of(game: tuple[int, int, int]) -> Tensor:
    M, N, seed = game
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, 2**M, generator=generator, dtype=torch.float64)


def by_orders(value: list[float], players: list[int]) -> list[float]:
    """The mean gain of each player (a set of modalities) over all orders of the players."""
    orders = list(permutations(range(len(players))))
    gains: list[list[float]] = [[] for _ in players]
    for order in orders:
        present = 0
        for player in order:
            gains[player].append(value[present | players[player]] - value[present])
            present |= players[player]
    return [math.fsum(gain) / len(orders) for gain in gains]


def interaction_by_orders(value: list[float], count: int, i: int, j: int) -> float:
    """What i and j gain as one player, less what each gains when the other is not there."""
    others = [1 << m for m in range(count) if m not in {i, j}]
    both, alone, also = (
        by_orders(value, [player, *others])[0] for player in (1 << i | 1 << j, 1 << i, 1 << j)
    )
    return both - alone - also


@settings(deadline=None, max_examples=40)
@given(games)
def test_both_are_the_mean_over_all_orders(game):
    M, N, _ = game
    values = values_of(game)
    expected = [by_orders(row, [1 << m for m in range(M)]) for row in values.tolist()]
    assert shapley(values).dtype == torch.float64
    torch.testing.assert_close(shapley(values), torch.tensor(expected, dtype=torch.float64))
    pairs = interactions(values)
    assert pairs.shape == (N, M, M)
    assert torch.equal(pairs, pairs.transpose(1, 2))
    assert torch.equal(pairs.diagonal(dim1=1, dim2=2), torch.zeros(N, M, dtype=torch.float64))
    for n, row in enumerate(values.tolist()):
        for i in range(M):
            for j in range(i):
                assert pairs[n, i, j].item() == pytest.approx(
                    interaction_by_orders(row, M, i, j), abs=1e-12
                )


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**31)))
def test_efficiency_and_additivity(game):
    one, other = values_of(game), values_of((*game[:2], game[2] + 1))
    torch.testing.assert_close(shapley(one).sum(1), one[:, -1] - one[:, 0])
    torch.testing.assert_close(shapley(2 * one - other), 2 * shapley(one) - shapley(other))
    torch.testing.assert_close(
        interactions(2 * one - other), 2 * interactions(one) - interactions(other)
    )


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**31)),
    st.floats(-3, 3),
    st.data(),
)
def test_a_dummy_gets_its_own_value_and_interacts_with_nobody(game, own, data):
    M = game[0]
    dummy = data.draw(st.integers(0, M - 1))
    index = torch.arange(2**M)
    present = index.bitwise_and(1 << dummy) != 0
    values = values_of(game)[:, index & ~(1 << dummy)] + own * present
    zeros = torch.zeros(game[1], M, dtype=torch.float64)
    torch.testing.assert_close(shapley(values)[:, dummy], zeros[:, 0] + own)
    torch.testing.assert_close(interactions(values)[:, dummy], zeros, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**31)), st.randoms())
def test_names_do_not_matter(game, random):
    """Symmetry: renaming the modalities renames the result."""
    M = game[0]
    order = random.sample(range(M), M)  # modality m is called order[m]
    renamed = [sum(1 << order[m] for m in range(M) if s >> m & 1) for s in range(2**M)]
    values = values_of(game)
    again = torch.empty_like(values)
    again[:, renamed] = values
    torch.testing.assert_close(shapley(again)[:, order], shapley(values))
    torch.testing.assert_close(interactions(again)[:, order][:, :, order], interactions(values))


def test_examples_with_known_results():
    # Worth 1 only together (AND), worth 1 as soon as one is there (OR), worth 1 each.
    values = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 2]])
    assert shapley(values).tolist() == [[0.5, 0.5], [0.5, 0.5], [1.0, 1.0]]
    assert interactions(values)[:, 0, 1].tolist() == [1.0, -1.0, 0.0]
    # The glove game: one left glove (modality 0), two right ones.
    glove = torch.tensor([[0, 0, 0, 1, 0, 1, 0, 1]])
    torch.testing.assert_close(shapley(glove)[0], torch.tensor([4, 1, 1]).double() / 6)
    # One modality is worth what it adds.
    assert shapley(torch.tensor([[1.0, 3.5]])).tolist() == [[2.5]]
    assert interactions(torch.tensor([[1.0, 3.5]])).tolist() == [[[0.0]]]


def test_eight_modalities_of_many_samples():
    weights = torch.arange(1.0, 9.0, dtype=torch.float64)
    bits = torch.arange(256)[:, None].bitwise_and(1 << torch.arange(8)) != 0
    values = (bits.double() @ weights).square().expand(5000, 256)
    # For (sum of the weights of those present)^2: phi_m = w_m * total, I_ij = 2 w_i w_j.
    torch.testing.assert_close(shapley(values)[-1], weights * 36)
    expected = 2 * torch.outer(weights, weights)
    torch.testing.assert_close(interactions(values)[-1], expected.fill_diagonal_(0))


@pytest.mark.parametrize("shape", [(3, 1), (3, 6), (3, 0), (4,), (2, 512), (2, 2, 4)])
@pytest.mark.parametrize("function", [shapley, interactions])
def test_values_that_are_not_of_all_coalitions_are_refused(function, shape):
    with pytest.raises(CMIEIError, match=r"got:[\s\S]*expected:[\s\S]*remedy:"):
        function(torch.zeros(*shape))
