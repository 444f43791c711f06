"""Which inputs of a model are modalities."""

from __future__ import annotations

import pytest
import torch
from fusion_models import SPLITS, B, C, ReID, best, inputs, prose
from helpers import Fused
from torch import nn

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


class Dual(nn.Module):
    """A dual encoder that takes what a tokenizer returns."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 6), nn.Embedding(12, 6)
        self.text, self.image = nn.Linear(6, 4), nn.Linear(6, 3)
        self.classifier = nn.Linear(7, C)

    def forward(self, pixels, input_ids, attention_mask=None, position_ids=None, lengths=None):
        words = self.words(input_ids)
        if position_ids is not None:
            words = words + self.places(position_ids)
        if attention_mask is not None:
            words = words * attention_mask.unsqueeze(-1)
        text = words.mean(1) if lengths is None else words.sum(1) / lengths[:, None]
        return self.classifier(torch.cat([self.image(pixels), self.text(text)], 1))


def tokens(pad: str = "right") -> dict[str, torch.Tensor]:
    """Six words or fewer in each sample."""
    used = torch.tensor([6, 3, 5, 2, 6, 4, 3, 6])
    mask = (torch.arange(6) < used[:, None]).long()
    if pad == "left":
        mask = mask.flip(1)
    places = (mask.cumsum(1) * mask) + 1  # as RoBERTa counts, with 1 for what is padded
    ids = torch.randint(2, 50, (B, 6)) * mask
    return {"input_ids": ids, "attention_mask": mask, "position_ids": places}


IMAGE_AND_TEXT = {"head": "classifier", "splits": [3, 4]}


@pytest.mark.parametrize("pad", ["right", "left"])
@pytest.mark.parametrize("mask", [torch.long, torch.bool, torch.float32])
def test_masks_and_positions_are_no_modalities(pad, mask, golden):
    given = tokens(pad)
    given["attention_mask"] = given["attention_mask"].to(mask)
    report = discover(Dual(), {"pixels": torch.randn(B, 6), **given})
    assert best(report) == {**IMAGE_AND_TEXT, "names": ["pixels", "input_ids"]}
    golden(prose(report))


def test_inputs_that_belong_together_are_permuted_together(golden):
    given = {**tokens(), "lengths": torch.tensor([6.0, 3, 5, 2, 6, 4, 3, 6])}
    together = {"text": ["input_ids", "attention_mask", "position_ids", "lengths"]}
    report = discover(Dual(), {"pixels": torch.randn(B, 6), **given}, inputs=together)
    assert best(report) == {**IMAGE_AND_TEXT, "names": ["pixels", "text"]}
    assert not report.notes


@pytest.mark.negative_control
def test_token_ids_are_a_modality_also_if_they_look_alike():
    """Small whole numbers that neither count up nor are 0 and 1 only."""
    ids = torch.randint(0, 3, (B, 6))
    report = discover(Dual(), torch.randn(B, 6), ids)
    assert best(report)["names"] == ["pixels", "input_ids"]


@pytest.mark.negative_control
def test_an_image_of_0_and_1_is_a_modality():
    image = (torch.rand(B, 6) > 0.5).float()
    report = discover(Dual(), image, tokens()["input_ids"])
    assert best(report)["names"] == ["pixels", "input_ids"]


def test_a_mask_that_the_user_names_is_a_modality():
    """The content of a text may be 0 and 1, such as words that occur in it."""
    words = torch.randint(0, 2, (B, 6))
    report = discover(Dual(), torch.randn(B, 6), words, inputs={"words": 1})
    assert best(report)["names"] == ["pixels", "words"]


def test_a_dict_of_tensors_is_named_by_one_word():
    class Nested(Dual):
        def forward(self, pixels, text):
            return super().forward(pixels, **text)

    report = discover(Nested(), torch.randn(B, 6), tokens(), inputs={"words": "text"})
    assert best(report)["names"] == ["pixels", "words"]
    assert not report.notes


def test_inputs_that_are_ignored_or_absent_are_said(golden):
    class WithCamera(ReID):
        def forward(self, r, n, t, camera, depth=None):
            return super().forward(r, n, t) + camera.mean()

    xs = inputs(4)
    expected = {"head": "classifier", **SPLITS}
    report = discover(WithCamera(), *xs, None, ignore=["camera"])
    assert best(report) == expected
    golden(prose(report))
    by_keyword = dict(zip(("r", "n", "t", "camera"), xs, strict=True))
    by_keyword["depth"] = None
    assert best(discover(WithCamera(), by_keyword, ignore=["camera", "depth"])) == expected


@pytest.mark.parametrize(
    "told",
    [
        {"ignore": ["text"]},
        {"inputs": {"text": ["input_ids", "masks"]}},
        {"inputs": {"text": ["input_ids", 1]}},
        {"inputs": {"text": ["input_ids"], "other": ["pixels", "tiny"]}},
        {"ignore": ["input_ids"]},
    ],
)
def test_what_the_inputs_do_not_hold_is_refused(told, golden):
    class WithTiny(Dual):
        def forward(self, pixels, input_ids, attention_mask, tiny, depth):
            return super().forward(pixels, input_ids, attention_mask)

    given = tokens()
    xs = [torch.randn(B, 6), given["input_ids"], given["attention_mask"], torch.ones(3), None]
    with pytest.raises(InputError) as caught:
        discover(WithTiny(), *xs, **told)
    golden(caught.value)
