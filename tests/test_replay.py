from __future__ import annotations

import math

import torch

from cmiei_hooks.replay import Replays

CHOSEN = torch.tensor([0, -1])


def test_a_call_is_recognised_by_its_features():
    replays, one, two = Replays(), torch.randn(2, 3), torch.randn(2, 3)
    replays.remember(one, 0, CHOSEN)
    replays.remember(two, 1, None)
    assert replays.recall(one).step == 0
    assert replays.recall(two.clone()).step == 1
    assert replays.recall(torch.randn(2, 3)) is None
    assert replays.recall(torch.randn(4, 3)) is None
    assert replays.recall(one.flip(0)) is None  # the same samples in another order


def test_of_equal_calls_the_newest_that_was_not_replayed_yet():
    replays, features = Replays(), torch.randn(2, 3)
    for step in range(3):
        replays.remember(features, step, CHOSEN)
    assert [replays.recall(features).step for _ in range(3)] == [2, 1, 0]


def test_features_that_are_not_finite_are_recognised_too():
    replays = Replays()
    features = torch.tensor([[math.nan, 1.0], [2.0, 3.0]])
    replays.remember(features, 5, CHOSEN)
    assert replays.recall(features.clone()).step == 5


def test_the_memory_is_bounded():
    replays = Replays()
    for step in range(Replays.LIMIT + 10):
        replays.remember(torch.full((1, 2), float(step)), step, CHOSEN[:1])
    assert replays.recall(torch.full((1, 2), 9.0)) is None
    assert replays.recall(torch.full((1, 2), 10.0)).step == 10
