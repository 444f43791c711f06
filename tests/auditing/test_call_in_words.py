"""An error of the model's says how the model was called, and how else it can be."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor

from cmiei_hooks import audit

X, LABELS, CAMERAS = torch.randn(4, 6), torch.tensor([0, 1, 2, 0]), torch.tensor([5, 5, 6, 6])
IMAGES = {"RGB": X, "NI": X}


class ReID(Fused):
    """Takes a dict of images; wants the cameras, too, although they have a default."""

    def forward(self, x, cam_label=None):
        return super().forward(x["RGB"] + x["NI"] + self.cameras(cam_label))

    def cameras(self, label: Tensor) -> Tensor:
        return torch.ones(9, 1)[label].reshape(len(label), 1)


class Keywords(Fused):
    def forward(self, rgb, depth):
        return super().forward(rgb @ depth)


def fails(model, batch, splits=WIDTHS, **options) -> BaseException:
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)) as error:
        audit(model, [batch], head="classifier", splits=splits, **options)
    return error.value


def unpacks_too_many(model, batch):
    images, cameras = batch
    model(images, cam_label=cameras)


@pytest.mark.parametrize(
    ("model", "batch", "options"),
    [
        (ReID(), ([X, X], LABELS), {"inputs": [0]}),
        (ReID(), (IMAGES, X, CAMERAS), {"inputs": [0, 1], "in_training_branch": True}),
        (Keywords(), {"rgb": X, "depth": X, "label": LABELS}, {}),
        (ReID(), (IMAGES, LABELS, ("path.jpg",) * 50), {"forward": unpacks_too_many}),
    ],
    ids=["a list for a dict", "the wrong column", "keywords", "forward of the user"],
)
def test_what_the_model_raises_says_how_it_was_called(model, batch, options, golden):
    error = fails(model, batch, **options)
    (note,) = error.__notes__
    golden(note)
    assert error.__context__ is None  # one traceback, although the batch was run twice


def test_the_call_that_the_note_asks_for_works():
    def with_cameras(model, batch):
        images, _, cameras = batch
        model(images, cam_label=cameras)

    batches, where = [(IMAGES, LABELS, CAMERAS)], {"head": "classifier", "splits": WIDTHS}
    by_columns = audit(ReID(), batches, **where, inputs=[0, 2])
    assert by_columns.n_samples == 4
    assert audit(ReID(), batches, **where, forward=with_cameras).n_samples == 4


def test_later_batches_are_called_as_the_first_and_raise_without_a_note():
    model, batch = ReID(), (IMAGES, LABELS, CAMERAS)
    broken = ({"RGB": X, "NI": X[:3]}, LABELS, CAMERAS)
    with pytest.raises(RuntimeError) as error:
        audit(model, [batch, broken], head="classifier", splits=WIDTHS, inputs=[0, 2])
    assert not hasattr(error.value, "__notes__")


def test_a_refusal_of_this_package_has_no_note():
    error = fails(Fused(), X, splits=[4, 3, 4])
    assert not hasattr(error, "__notes__")


@pytest.mark.negative_control
def test_without_the_note_the_error_would_be_that_of_the_model_alone(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.auditing.collect._explained", lambda *_: nullcontext())
    assert not hasattr(fails(ReID(), ([X, X], LABELS), inputs=[0]), "__notes__")
