"""Which part of what a head returns is the logits."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cmiei_hooks import CMIEIError
from cmiei_hooks.fusion.logits import outputs_of, read_logits, read_tensor


@dataclass
class Answer:
    logits: Tensor


LOGITS = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (LOGITS, None),
        ((1, LOGITS), 1),
        ([LOGITS, 1], 0),
        ({"logits": LOGITS}, "logits"),
        (SimpleNamespace(logits=LOGITS), "logits"),
        (Answer(LOGITS), "logits"),
        (LOGITS, 0),
        (LOGITS, "logits"),
        ((1, (2, LOGITS)), lambda out: out[1][1]),
    ],
)
def test_logits_are_picked_out_of_what_the_head_returns(returned, output):
    assert read_logits(returned, output, 4) is LOGITS


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        ((LOGITS, 1), None),
        (torch.zeros(4, 3, 2), None),
        (torch.zeros(5, 3), None),
        (torch.zeros(4, 1), None),
        (torch.zeros(4, 3, dtype=torch.int64), None),
        ((LOGITS,), 2),
        ({"score": LOGITS}, "logits"),
        (LOGITS, lambda out: "text"),
    ],
)
def test_what_is_not_logits_is_refused(returned, output, golden):
    with pytest.raises(CMIEIError) as error:
        read_logits(returned, output, 4)
    golden(error.value)


def test_axes_that_models_squeeze_away_are_understood(golden):
    assert read_logits(torch.zeros(3), None, 1).shape == (1, 3)
    assert read_logits(torch.zeros(4), None, 4, least=1).shape == (4, 1)
    assert read_logits(torch.zeros(1), None, 1, least=1).shape == (1, 1)
    with pytest.raises(CMIEIError) as error:
        read_logits(torch.zeros(4), None, 4)
    golden(error.value)
    with pytest.raises(CMIEIError) as error:
        read_logits(torch.zeros(3), None, 4, least=1)
    golden(error.value)


def test_a_link_passes_one_tensor_on(golden):
    assert read_tensor((LOGITS, 1.0), 0, "fuse") is LOGITS
    assert read_tensor(LOGITS, 0, "fuse") is LOGITS  # eval mode: the features alone
    with pytest.raises(CMIEIError) as error:
        read_tensor((LOGITS, 1.0), None, "fuse")
    golden(error.value)


def test_one_output_is_that_of_the_last_link():
    assert outputs_of(2, ["a", "b", "c"]) == (None, None, 2)
    assert outputs_of("logits", ["a"]) == ("logits",)
    assert outputs_of([0, None], ["a", "b"]) == (0, None)
    assert outputs_of(len, ["a", "b"]) == (None, len)


def test_a_list_of_keys_leads_inwards():
    assert outputs_of([1, 0], ["a"]) == ((1, 0),)
    assert outputs_of([1], ["a"]) == outputs_of([[1]], ["a"]) == (1,)
    assert outputs_of([["extra", 0]], ["a"]) == (("extra", 0),)
    assert outputs_of([None], ["a"]) == (None,)
    # A list for a chain has one entry for each link.
    assert outputs_of([1, 0], ["a", "b"]) == (1, 0)
    assert outputs_of([None, ["extra", 0]], ["a", "b"]) == (None, ("extra", 0))


def test_the_logits_are_read_inside_containers():
    returned = {"all": [(1.0, LOGITS)], "loss": 0.5}
    assert read_logits(returned, ("all", 0, 1), len(LOGITS)) is LOGITS
    assert read_logits(SimpleNamespace(deep=[LOGITS]), ("deep", 0), len(LOGITS)) is LOGITS
    # In eval mode a module may return less around them.
    assert read_logits({"all": LOGITS}, ("all", 0, 1), len(LOGITS)) is LOGITS


def test_a_path_that_leads_nowhere_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        read_logits({"all": [1.0]}, ("all", 3), len(LOGITS))
    golden(error.value)
    with pytest.raises(CMIEIError) as error:
        outputs_of([1, True], ["a"])
    golden(error.value)


@pytest.mark.parametrize("output", [[0], True, [None, 1.5]])
def test_an_output_that_says_nothing_is_refused(output, golden):
    with pytest.raises(CMIEIError) as error:
        outputs_of(output, ["a", "b"])
    golden(error.value)
