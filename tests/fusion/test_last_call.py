"""A call like the last one is read without looking for its modalities again."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from cmiei_hooks.fusion import LastCall, Partition
from cmiei_hooks.fusion.captured_call import Captured

NAMES = ("r", "n")
PARTITIONS = {
    "columns": (Partition((3, 5), NAMES), lambda: (torch.randn(4, 8),)),
    "tokens": (Partition((3, 5), NAMES, dim=1), lambda: (torch.randn(4, 8, 2),)),
    "a free width": (Partition((None, 5), NAMES, dim=1), lambda: (torch.randn(4, 9, 2),)),
    "behind ids": (Partition((3, 5), NAMES), lambda: (torch.arange(4), torch.randn(4, 8))),
    "positions": (Partition(((0,), (2,)), NAMES), lambda: tuple(torch.randn(3, 4, 2))),
    "blocks": (
        Partition((((0, 1), (6, 8)), ((2, 4),)), NAMES),
        lambda: (torch.randn(4, 8),),
    ),
}


def alike(one: Captured, other: Captured) -> bool:
    same = one.tensors.keys() == other.tensors.keys() and all(
        one.tensors[path] is other.tensors[path] for path in one.tensors
    )
    return same and (one.groups, one.dim, one.call) == (other.groups, other.dim, other.call)


@pytest.mark.parametrize("name", PARTITIONS)
def test_it_finds_what_the_partition_finds(name):
    partition, call = PARTITIONS[name]
    last = LastCall()
    assert last.read(call(), {}) is None
    last.keep(partition.read(call(), {}))
    args = call()
    found = last.read(args, {})
    assert found is not None
    assert alike(found, partition.read(args, {}))


FEATURES = torch.randn(4, 8)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((FEATURES[:3],), {}),
        ((FEATURES.double(),), {}),
        ((FEATURES, FEATURES), {}),
        ((), {"x": FEATURES}),
        ((FEATURES,), {"scale": 2.0}),
        (([FEATURES],), {}),
        ((None,), {}),
        ((nn.Parameter(FEATURES),), {}),
        ((FEATURES.to_sparse(),), {}),
        ((torch.nested.as_nested_tensor([FEATURES, FEATURES]),), {}),
        ((FEATURES.to("meta"), 1), {}),
    ],
)
def test_any_other_call_is_left_to_the_partition(args, kwargs):
    last = LastCall()
    last.keep(Partition((3, 5), NAMES).read((FEATURES,), {}))
    assert last.read(args, kwargs) is None


def test_no_tensor_is_kept():
    features = torch.randn(4, 8)
    last, gone = LastCall(), weakref.ref(features)
    last.keep(Partition((3, 5), NAMES).read((features,), {}))
    del features
    gc.collect()
    assert gone() is None
