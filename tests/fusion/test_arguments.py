"""What a user's word means in a call, and which calls a function takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cmiei_hooks.errors import CheckpointError, InputError
from cmiei_hooks.fusion.arguments import call_of_mapping, first_tensors, refuse_misfit, resolve

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
