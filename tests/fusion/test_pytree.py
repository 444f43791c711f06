"""Tensors in calls and nested containers: found in order, replaced in copies."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from cmiei_hooks.fusion.pytree import (
    Field,
    call_tensors,
    mapped,
    replaced,
    tensors,
    value_at,
    with_values,
)

A, B, C = (torch.full((2, width), float(width)) for width in (1, 2, 3))
Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Frozen:
    a: Tensor
    text: str


VALUES = {
    "tensor": (A, [()]),
    "list": ([A, 1, B], [(0,), (2,)]),
    "tuple": ((A, (B, C)), [(0,), (1, 0), (1, 1)]),
    "namedtuple": (Pair(A, B), [(0,), (1,)]),
    "dict": ({"x": A, "y": [B]}, [("x",), ("y", 0)]),
    "ordered": (OrderedDict(y=A, x=B), [("y",), ("x",)]),
    "defaultdict": (defaultdict(list, x=A), [("x",)]),
    "UserDict": (UserDict({"x": A}), [("x",)]),
    "read-only": (MappingProxyType({"x": A}), [("x",)]),
    "dataclass": (Frozen(A, "no"), [("a",)]),
    "namespace": (SimpleNamespace(a=A, b={"c": B}), [("a",), ("b", "c")]),
    "nothing": ("text", []),
}


@pytest.mark.parametrize(("value", "paths"), VALUES.values(), ids=VALUES)
def test_tensors_are_found_and_replaced_one_by_one(value, paths):
    before = list(tensors(value))
    assert [path for path, _ in before] == paths
    for at in paths:
        new = replaced(value, at, -A)
        after = dict(tensors(new))
        for path, tensor in before:
            assert after[path] is tensor or (path == at and torch.equal(after[path], -A))
    assert all(a is b for (_, a), (_, b) in zip(before, tensors(value), strict=True))


@pytest.mark.parametrize(("value", "paths"), VALUES.values(), ids=VALUES)
def test_every_tensor_is_mapped_and_the_types_stay(value, paths):
    new = mapped(value, torch.neg)
    assert type(new) is (dict if isinstance(value, MappingProxyType) else type(value))
    found = list(tensors(new))
    assert [path for path, _ in found] == paths
    assert all(torch.equal(a, -b) for (_, a), (_, b) in zip(found, tensors(value), strict=True))


def test_a_key_is_not_an_attribute():
    (((name,), _),) = tensors(SimpleNamespace(x=A))
    (((key,), _),) = tensors({"x": A})
    assert name == key == "x"
    assert isinstance(name, Field)
    assert not isinstance(key, Field)


def test_a_call_begins_with_positions_and_keywords():
    call = ((A, [B]), {"c": C, "n": SimpleNamespace(b=B)})
    found = dict(call_tensors(call))
    assert list(found) == [(0,), (1, 0), ("c",), ("n", "b")]
    assert all(value_at(call, path) is tensor for path, tensor in found.items())
    new = with_values(call, {(1, 0): A, ("c",): B, ("n", Field("b")): C})
    assert [t is u for (_, t), u in zip(call_tensors(new), (A, A, B, C), strict=True)] == [True] * 4
    assert call[0][1][0] is B
    assert call[1]["c"] is C
    assert call[1]["n"].b is B
