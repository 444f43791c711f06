"""Memory that is lent again and again, and never to two threads at once."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from cmiei_hooks.counterfactual import influence_of_linear
from cmiei_hooks.counterfactual.workspace import Workspace
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

LIKE = torch.zeros(2)


def test_the_same_memory_is_lent_again_and_grows_only_when_it_must():
    workspace = Workspace()
    large = workspace.empty((4, 5), LIKE)
    small = workspace.empty((3,), LIKE)
    assert small.data_ptr() == large.data_ptr()
    assert workspace.empty((21,), LIKE).data_ptr() != large.data_ptr()


@pytest.mark.parametrize(
    "like", [torch.zeros(2, dtype=torch.float64), torch.zeros(2, device="meta")], ids=str
)
def test_memory_has_the_type_and_the_device_that_is_asked_for(like):
    workspace = Workspace()
    workspace.empty((4,), LIKE)
    got = workspace.empty((4,), like)
    assert (got.dtype, got.device, got.shape) == (like.dtype, like.device, (4,))


def test_what_was_made_in_inference_mode_is_not_kept():
    workspace = Workspace()
    with torch.inference_mode():
        workspace.empty((4,), LIKE)
    workspace.empty((4,), LIKE).zero_()  # not allowed for a tensor made in inference mode


def test_very_large_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.counterfactual.workspace._MOST", 8)
    workspace = Workspace()
    first = workspace.empty((8,), LIKE)
    assert workspace.empty((9,), LIKE).data_ptr() != first.data_ptr()
    assert workspace.empty((8,), LIKE).data_ptr() == first.data_ptr()


def test_each_thread_has_memory_of_its_own():
    workspace = Workspace()
    mine, others = workspace.empty((4,), LIKE).fill_(1), []

    def lend() -> None:
        others.append(workspace.empty((4,), LIKE).fill_(2))

    thread = threading.Thread(target=lend)
    thread.start()
    thread.join()
    assert mine.tolist() == [1] * 4
    assert others[0].tolist() == [2] * 4


@pytest.mark.parametrize("head", [nn.Linear(6, 5), nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 5))])
def test_a_result_is_not_in_memory_that_the_next_estimate_writes_over(head):
    partition = Partition((2, 2, 2), ("r", "n", "t"))
    whole = Head(("head",), (head,), partition, (None,), "zero", "kl")
    calls = [partition.read((torch.randn(7, 6),), {}) for _ in range(2)]
    workspace = Workspace()
    first, second = (influence_of_linear(whole, call, workspace) for call in calls)
    assert torch.equal(first, influence_of_linear(whole, calls[0]))
    assert torch.equal(second, influence_of_linear(whole, calls[1]))
