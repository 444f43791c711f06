"""Which inputs of a model are modalities."""

from __future__ import annotations

import pytest
import torch
from fusion_models import SPLITS, B, ReID, best, inputs
from helpers import Fused

from cmiei_hooks import discover
from cmiei_hooks.errors import InputError


def test_one_input_tensor_is_refused(golden):
    with pytest.raises(InputError) as caught:
        discover(Fused(), torch.randn(B, 6))
    golden(caught.value)


def test_a_single_sample_is_refused(golden):
    with pytest.raises(InputError) as caught:
        discover(ReID(), *[x[:1] for x in inputs()])
    golden(caught.value)


def test_inputs_that_forward_does_not_take_are_refused(golden):
    with pytest.raises(InputError) as caught:
        discover(ReID(), *inputs(2))
    golden(caught.value)


def test_labels_and_masks_of_ones_are_no_modalities():
    class WithLabel(ReID):
        def forward(self, r, n, t, label, mask):
            return super().forward(r, n, t) + label.unsqueeze(1) + mask.sum()

    label, mask = torch.arange(B), torch.ones(B, 3, dtype=torch.long)
    assert best(discover(WithLabel(), *inputs(), label, mask)) == {"head": "classifier", **SPLITS}


def test_equal_samples_are_told_apart_by_noise():
    assert best(discover(ReID(), *[torch.zeros(B, 6)] * 3)) == {"head": "classifier", **SPLITS}
