"""Exact Shapley values and interactions, from the values of all coalitions of modalities.

``N`` is the samples, ``M`` the modalities. Bit ``m`` of the index of a coalition says that modality
``m`` is present: column 0 is the value without any, the last column that of the complete input.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["MOST_MODALITIES", "interactions", "shapley"]

MOST_MODALITIES = 8
"""8 modalities have 256 coalitions, and each one is a forward pass of the head."""


def shapley(values: Tensor) -> Tensor:
    """What each modality contributes to the value of the complete input, on average.

    ``phi_m`` is the mean, over all orders in which the modalities may be added one by one, of what
    the value gains when m is added. The M of them add up to the value of the complete input minus
    that of the empty one. Negative: the modality lowers the value.

    Args:
        values: ``[N, 2 ** M]``, the value of each coalition.

    Returns:
        float64 ``[N, M]``, in the units of the values.

    Raises:
        InputError: the columns are not the coalitions of 1 to 8 modalities.
    """
    count = _modalities(values)
    weights = torch.zeros(2**count, count, dtype=torch.float64)
    for m in range(count):
        for rest in _coalitions(count, without=1 << m):
            weight = _share_of_orders(rest, count)
            weights[rest | 1 << m, m] = weight
            weights[rest, m] = -weight
    return values.double() @ weights


def interactions(values: Tensor) -> Tensor:
    """What each pair of modalities is worth together beyond what the two are worth alone.

    The Shapley interaction index of Grabisch and Roubens: the mean of
    ``v(S + i + j) - v(S + i) - v(S + j) + v(S)`` over the coalitions S of the others, weighted as
    in the Shapley value of the game in which i and j are one player. Positive: the two complement
    each other; negative: they are redundant; zero: they act independently.

    Args:
        values: ``[N, 2 ** M]``, the value of each coalition.

    Returns:
        float64 ``[N, M, M]``, symmetric with a diagonal of zeros, in the units of the values.

    Raises:
        InputError: the columns are not the coalitions of 1 to 8 modalities.
    """
    count = _modalities(values)
    pairs = list(combinations(range(count), 2))
    weights = torch.zeros(2**count, len(pairs), dtype=torch.float64)
    for column, (i, j) in enumerate(pairs):
        for rest in _coalitions(count, without=1 << i | 1 << j):
            weight = _share_of_orders(rest, count - 1)
            weights[rest | 1 << i | 1 << j, column] = weights[rest, column] = weight
            weights[rest | 1 << i, column] = weights[rest | 1 << j, column] = -weight
    each = values.double() @ weights
    matrix = each.new_zeros(len(each), count, count)
    for column, (i, j) in enumerate(pairs):
        matrix[:, i, j] = matrix[:, j, i] = each[:, column]
    return matrix


def _coalitions(count: int, *, without: int) -> list[int]:
    return [coalition for coalition in range(2**count) if not coalition & without]


def _share_of_orders(coalition: int, players: int) -> float:
    """The share of all orders of the players in which this coalition precedes a given player."""
    before = coalition.bit_count()
    orders = math.factorial(before) * math.factorial(players - before - 1)
    return orders / math.factorial(players)


def _modalities(values: Tensor) -> int:
    count = values.shape[-1].bit_length() - 1
    if values.dim() != 2 or not 1 <= count <= MOST_MODALITIES or values.shape[1] != 2**count:
        raise InputError(
            "Shapley values need the value of every coalition of the modalities",
            got=f"values of shape {list(values.shape)}",
            expected=f"[N, 2 ** M] for M from 1 to {MOST_MODALITIES} modalities",
            remedy="for more modalities, join some of them into one",
        )
    return count
