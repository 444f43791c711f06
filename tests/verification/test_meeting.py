"""Modalities that reach the head one by one: in a call, or in rows, of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, CMIEIWarning, audit, verify
from cmiei_hooks.verification import Check

B, D, C = 8, 8, 5
WHERE = {"head": "classifier", "splits": {"rgb": 4, "ir": 4}}


class Two(nn.Module):
    """Two encoders and one classifier for both."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.ir = nn.Linear(6, D), nn.Linear(6, D)
        self.backbone = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.ReLU())
        self.classifier = nn.Linear(D, C)


class Stacked(Two):
    """As AGW and DEEN: visible images above infrared ones, one classifier over 2B rows."""

    def forward(self, rgb: Tensor, ir: Tensor) -> Tensor:
        return self.classifier(self.backbone(torch.cat([self.rgb(rgb), self.ir(ir)])))


class OneByOne(Two):
    """One classifier, called once for each modality."""

    def forward(self, rgb: Tensor, ir: Tensor) -> Tensor:
        return (self.classifier(self.rgb(rgb)) + self.classifier(self.ir(ir))) / 2


class WithMask(Two):
    """One by one, a text with its mask and an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb = nn.Embedding(9, D)

    def forward(self, ids: Tensor, mask: Tensor, ir: Tensor) -> list[Tensor]:
        text = (self.rgb(ids) * mask[..., None]).mean(1)
        return [self.classifier(text), self.classifier(self.ir(ir))]


def given() -> tuple[Tensor, Tensor]:
    return torch.randn(B, 6), torch.randn(B, 6)


def text_and_image() -> tuple[Tensor, ...]:
    mask = torch.ones(B, 4, dtype=torch.long)
    mask[::3, 2:] = 0
    return torch.randint(9, (B, 4)), mask, torch.randn(B, 6)


def check(model: nn.Module, *inputs: Tensor, **where: object) -> Check | None:
    report = verify(model, *inputs, **(where or WHERE))
    return next((c for c in report.checks if c.name == "the modalities meet in the head"), None)


APART = {
    "stacked": (Stacked, given),
    "one by one": (OneByOne, given),
    "a text with its mask": (WithMask, text_and_image),
}


@pytest.mark.parametrize("which", APART)
def test_they_are_refused_by_verify_and_by_the_audit(which, golden):
    make, inputs = APART[which]
    x = inputs()
    found = check(make(), *x)
    assert not found.ok
    golden(found.found)
    for labels in ((), (torch.arange(B) % C,)):
        for training_branch in (False, True):
            with pytest.raises(CMIEIError) as error:
                audit(make(), [(*x, *labels)], **WHERE, in_training_branch=training_branch)
            golden(error.value)


@pytest.mark.negative_control
def test_without_the_check_the_audit_measures_cuts_inside_one_modality(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.auditing.observer.modalities_apart", lambda *_: "")
    assert audit(OneByOne(), [given()], **WHERE).n_samples == 2 * B


class FourViews(Two):
    """Two views of both modalities, fused each: two calls that receive everything."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(2 * D, C)

    def fuse(self, rgb: Tensor, ir: Tensor) -> Tensor:
        return torch.cat([self.rgb(rgb), self.ir(ir)], -1)

    def forward(self, rgb: Tensor, ir: Tensor, rgb2: Tensor, ir2: Tensor) -> Tensor:
        return self.classifier(self.fuse(rgb, ir)) + self.classifier(self.fuse(rgb2, ir2))


class StackedViews(FourViews):
    """The same, the views one under the other."""

    def forward(self, *x: Tensor) -> Tensor:
        both = torch.cat([self.fuse(*x[:2]), self.fuse(*x[2:])])
        return self.classifier(both).view(2, len(x[0]), C).mean(0)


class Doubled(FourViews):
    """An augmenter doubles the batch."""

    def forward(self, rgb: Tensor, ir: Tensor) -> Tensor:
        x = self.fuse(rgb, ir)
        return self.classifier(torch.cat([x, x + 0.1]))


class Again(FourViews):
    """Called twice with the same samples."""

    def forward(self, rgb: Tensor, ir: Tensor) -> Tensor:
        return self.classifier(self.fuse(rgb, ir)) - self.classifier(self.fuse(rgb, ir).flip(0))


LEGITIMATE = {
    "two views": (FourViews, 4),
    "two views in one batch": (StackedViews, 4),
    "a doubled batch": (Doubled, 2),
    "called again": (Again, 2),
}


@pytest.mark.parametrize("which", LEGITIMATE)
@pytest.mark.filterwarnings("error")
def test_several_calls_or_rows_that_receive_all_modalities_are_right(which):
    make, count = LEGITIMATE[which]
    where = {"head": "classifier", "splits": [D, D]}
    inputs = [torch.randn(B, 6) for _ in range(count)]
    assert check(make(), *inputs, **where) is None
    assert audit(make(), [tuple(inputs)], **where).n_samples == 2 * B
    model = make()
    with cmiei_hooks.attach(model, **where, k=1, warmup_steps=0, log=False) as handle:
        for _ in range(2):
            model(*inputs).sum().backward()
    assert handle.last is not None


def warnings_of(model: nn.Module, *inputs: Tensor) -> list[str]:
    with (
        pytest.warns(CMIEIWarning, match="do not meet") as warned,
        cmiei_hooks.attach(model, **WHERE, k=1, warmup_steps=0, log=False),
    ):
        for _ in range(3):
            out = model(*inputs)
            sum(x.sum() for x in out).backward()
    return [str(one.message) for one in warned if "do not meet" in str(one.message)]


def test_in_training_a_classifier_for_each_encoder_is_warned_of_once(golden):
    (warned,) = warnings_of(OneByOne(), *given())
    golden(warned)
    (warned,) = warnings_of(WithMask(), *text_and_image())
    golden(warned)


@pytest.mark.negative_control
def test_without_the_check_training_says_nothing(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.counterfactual.output_check.separate_encoders", lambda *_: ())
    with pytest.raises(pytest.fail.Exception, match="DID NOT WARN"):
        warnings_of(OneByOne(), *given())


@pytest.mark.parametrize("tool", [cmiei_hooks.attach, audit, verify])
def test_the_batch_axis_is_no_axis_of_the_modalities(tool, golden):
    model, x = Stacked(), given()
    where = {"head": "classifier", "splits": [B, B], "dim": 0}
    if tool is verify:
        (found,) = verify(model, *x, **where).checks
        assert not found.ok
        golden(found.found)
        found = next(c for c in verify(model, *x, **where | {"dim": -2}).checks if not c.ok)
        golden(found.found)
        return
    with pytest.raises(CMIEIError) as error:
        tool(model, *([[x]] if tool is audit else []), **where)
    golden(error.value)
