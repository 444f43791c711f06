"""What a user's word means in a call, and which calls a function takes."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch

from cmiei_hooks.errors import CheckpointError, InputError
from cmiei_hooks.fusion.arguments import (
    call_of_mapping,
    first_tensors,
    places_of_tensors,
    refuse_misfit,
    resolve,
    word_for,
)
from cmiei_hooks.fusion.pytree import value_at, with_values

A, B = torch.zeros(2, 3), torch.ones(2, 4)


def test_arguments_come_before_what_is_inside_of_others():
    call = ((1, {"a": [B, A]}, A), {"x": B, "y": None, "z": SimpleNamespace(b=B)})
    assert first_tensors(call) == [(2,), ("x",), (1, "a", 0), (1, "a", 1), ("z", "b")]


@pytest.mark.parametrize(
    ("call", "word", "path"),
    [
        (((A, B), {}), 1, (1,)),
        (((A,), {"y": B}), 1, ("y",)),
        (((A,), {"y": B}), "x", (0,)),
        (([[A, B]], {}), 1, (0, 1)),
        (((), {"xs": [A, B]}), 1, ("xs", 1)),
        (((A, {"depth": B}), {}), "depth", (1, "depth")),
        (((A,), {"depth": B}), "depth", ("depth",)),
        (((A,), {}), 1, None),
        (((A,), {}), "depth", None),
        (((A,), {}), "y", None),
        (([[A]], {}), 1, None),
        (((SimpleNamespace(depth=A),), {}), "depth", None),
    ],
)
def test_a_word_is_a_position_an_index_a_keyword_or_a_key(call, word, path):
    assert resolve(call, word, ("x", "y")) == path


Two = namedtuple("Two", "a b")


@dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any


CONTAINERS = {
    "tuple": (lambda a, b: (a, b), "0"),
    "list": (lambda a, b: [a, b], "0"),
    "named tuple": (Two, "a"),
    "named tuple, by index": (Two, "0"),
    "dict": (lambda a, b: {"a": a, "b": b}, "a"),
    "dict of numbers": (lambda a, b: {0: a, 1: b}, "0"),
    "OrderedDict": (lambda a, b: OrderedDict(a=a, b=b), "a"),
    "UserDict": (lambda a, b: UserDict({"a": a, "b": b}), "a"),
    "read-only": (lambda a, b: MappingProxyType({"a": a, "b": b}), "a"),
    "dataclass": (Frozen, "a"),
    "namespace": (lambda a, b: SimpleNamespace(a=a, b=b), "a"),
}


@pytest.mark.parametrize(("make", "key"), CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("argument", ["x", "0"])
@pytest.mark.parametrize("keyword", [False, True])
def test_a_path_leads_into_an_argument(make, key, argument, keyword):
    def call_of(value: object) -> tuple[tuple, dict]:
        return ((), {"y": B, "x": value}) if keyword else ((value,), {"y": B})

    for value, word in ((make(A, B), key), (make([B, make(A, B)], B), f"{key}.1.{key}")):
        call = call_of(value)
        path = resolve(call, f"{argument}.{word}", ("x", "y"))
        assert value_at(call, path) is A
        assert value_at(with_values(call, {path: B}), path) is B
        assert value_at(call, path) is A


@pytest.mark.parametrize(
    ("call", "word", "path"),
    [
        # What was a word before paths were known still means the same.
        (((), {"x.0": A, "x": [B]}), "x.0", ("x.0",)),
        ((({"x.0": A, "x": [B]},), {}), "x.0", (0, "x.0")),
        (((A,), {"x": [B]}), "1", None),
        # The first argument is a list: a number alone is one of its items, in a path an argument.
        ((([A, B], (B, A)), {}), 1, (0, 1)),
        ((([A, B], (B, A)), {}), "1.0", (1, 0)),
        ((({"text": (A, B)},), {}), "text.0", (0, "text", 0)),
        ((({"0": [A], 0: [B]},), {}), "0.0.0", (0, "0", 0)),
        (((A, None), {}), "y.0", (1,)),
        (((A, [None]), {}), "y.0.1", (1, 0)),
        (((A, (B,)), {}), "y.1", None),
        (((A, (B,)), {}), "y.-1", None),
        (((A, (B,)), {}), "y.a", None),
        (((A, (B,)), {}), "y.0.0", None),
        (((A, (B,)), {}), "z.0", None),
        (((A, (B,)), {}), "2.0", None),
        (((A, (B,)), {}), "y.", None),
        (((A, (B,)), {}), ".0", None),
    ],
)
def test_what_a_path_means(call, word, path):
    assert resolve(call, word, ("x", "y")) == path


def test_every_tensor_that_a_word_can_mean_has_one():
    call = (([A, B], {"depth": A, "a.b": {"c": B}}, Frozen(B, A)), {"z": Two(A, 3)})
    words = {path: word_for(call, path, ("x", "y")) for path in first_tensors(call)}
    assert words == {
        (0, 0): 0,
        (0, 1): 1,
        (1, "depth"): "depth",
        (1, "a.b", "c"): None,
        (2, "a"): "2.a",
        (2, "b"): "2.b",
        ("z", 0): "z.0",
    }
    assert places_of_tensors(call, ()) == "0, 1, 'depth', '2.a', '2.b', 'z.0'"
    assert places_of_tensors(((), {}), ()) == "no place"


def forward(x: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    return x


def test_a_mapping_is_keywords_where_they_fit():
    assert call_of_mapping(forward, {"x": A}) == ((), {"x": A})
    assert call_of_mapping(forward, {"rgb": A}) == (({"rgb": A},), {})


@pytest.mark.parametrize("error", [InputError, CheckpointError])
@pytest.mark.parametrize("call", [((), {}), ((A, B), {}), ((A,), {"depth": B})])
def test_a_call_that_does_not_fit_is_refused_with_the_callers_words(call, error, golden):
    told = {"got": "what was given", "remedy": "give something else"}
    with pytest.raises(error) as refused:
        refuse_misfit(forward, call, error, "this does not fit", **told)
    golden(refused.value.problem + "\n" + refused.value.got + "\n" + refused.value.remedy)
    assert refused.value.expected.startswith("forward(x")
    with pytest.raises(error) as refused:
        refuse_misfit(forward, call, error, "this does not fit", **told, expected="a fit")
    assert refused.value.expected == "a fit"


@pytest.mark.parametrize("call", [((A,), {}), ((), {"x": A, "mask": B})], ids=["x", "mask"])
def test_a_call_that_fits_is_not_refused(call):
    refuse_misfit(forward, call, InputError, "", got="", remedy="")


def test_a_function_without_a_signature_takes_anything():
    refuse_misfit(max, ((A, B, A), {"nonsense": 1}), InputError, "", got="", remedy="")
