from __future__ import annotations

import pytest
import torch

from cmiei_hooks import CMIEIError
from cmiei_hooks.partition import Partition, default_names, put_back

PARTITION = Partition((2, 3), ("a", "b"))


def test_default_names():
    assert default_names(3) == ("r", "n", "t")
    assert default_names(2) == ("m0", "m1")


@pytest.mark.parametrize(
    ("dim", "shape"), [(-1, (4, 5)), (1, (4, 5, 7)), (-1, (4, 6, 5)), (2, (4, 1, 5))]
)
def test_blocks_are_cut_and_joined_on_the_axis(dim, shape):
    partition = Partition((2, 3), ("a", "b"), dim)
    features = torch.randn(shape)
    partition.find((features,), {})
    blocks = partition.blocks(features)
    axis = dim % features.dim()
    assert torch.equal(blocks[0], features.index_select(axis, torch.tensor([0, 1])))
    assert torch.equal(blocks[1], features.index_select(axis, torch.tensor([2, 3, 4])))
    assert torch.equal(partition.join(blocks), features)
    changed = partition.join_with(blocks, 1, torch.zeros_like(blocks[1]))
    assert torch.equal(partition.blocks(changed)[0], blocks[0])
    assert partition.blocks(changed)[1].count_nonzero() == 0


def test_the_first_tensor_is_found_positional_before_keyword():
    one, two = torch.randn(4, 5), torch.randn(4, 5)
    assert PARTITION.find((one, two), {})[0] == 0
    assert PARTITION.find((None, "text", two), {"x": one})[0] == 2
    place, found = PARTITION.find((3,), {"mask": None, "x": one})
    assert place == "x"
    assert found is one


def test_put_back_leaves_the_callers_containers_alone():
    one, two, new = torch.randn(4, 5), torch.randn(4, 5), torch.randn(4, 5)
    args, kwargs = (one, two), {"x": one, "y": two}
    new_args, same = put_back(args, kwargs, 1, new)
    assert new_args[0] is one
    assert new_args[1] is new
    assert same is kwargs
    same_args, new_kwargs = put_back(args, kwargs, "x", new)
    assert same_args is args
    assert new_kwargs["x"] is new
    assert kwargs["x"] is one
    assert args == (one, two)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(4, 4), r"narrower[\s\S]*4 on axis -1[\s\S]*2 \+ 3 = 5"),
        (torch.zeros(4, 6), r"wider[\s\S]*6 on axis -1[\s\S]*2 \+ 3 = 5"),
        (torch.zeros(5), "features of a batch"),
        (torch.zeros(4, 5, dtype=torch.int64), "floating-point"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(features, message):
    with pytest.raises(CMIEIError, match=message):
        PARTITION.find((features,), {})


def test_a_call_without_a_tensor_is_refused():
    with pytest.raises(CMIEIError, match="without a tensor"):
        PARTITION.find((3,), {"x": None})


@pytest.mark.parametrize("dim", [0, True, "last", 1.0])
def test_the_batch_axis_cannot_be_split(dim):
    with pytest.raises(CMIEIError, match="axis"):
        Partition((2, 3), ("a", "b"), dim)
