"""How the input of a head divides into modalities."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from fusion_models import B, C, Experts, ReID, best, inputs, prose, reasons
from torch import nn

from cmiei_hooks import discover, verify
from cmiei_hooks.fusion import call_tensors


def test_blocks_that_are_shared():
    report = discover(Experts(), *inputs())
    assert best(report) == {
        "head": "classifier_moe",
        "modalities": {
            "r": [(0, 2), (6, 8), (8, 10), (12, 14)],
            "n": [(2, 4), (6, 8), (10, 12), (12, 14)],
            "t": [(4, 6), (8, 10), (10, 12), (12, 14)],
        },
    }


class TokenHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, C)

    def forward(self, tokens):
        return self.fc(self.attend(tokens)[:, 0])


class Tokens(nn.Module):
    def __init__(self, cls: bool) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 8), nn.Linear(6, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8)) if cls else None
        self.head = TokenHead()

    def forward(self, image, text):
        parts = [self.image(image), self.text(text)]
        if self.cls is not None:
            parts.insert(0, self.cls.expand(len(image), -1, -1))
        return self.head(torch.cat(parts, 1))


def test_concatenation_of_tokens():
    image, text = torch.randn(B, 4, 6), torch.randn(B, 3, 6)
    report = discover(Tokens(cls=False), image, text)
    expected = {"head": "head", "splits": [4, 3], "names": ["image", "text"], "dim": 1}
    assert best(report) == expected
    report = discover(Tokens(cls=True), image, text)
    expected = {"head": "head", "modalities": {"image": [(1, 5)], "text": [(5, 8)]}, "dim": 1}
    assert best(report) == expected


def test_a_text_and_its_segments_count_as_one(golden):
    class WithSegments(ReID):
        def forward(self, r, text, segments):
            text = text * segments.unsqueeze(-1)
            return self.classifier(torch.cat(self.encode(r, text[:, 0], text.mean(1)), -1))

    segments = torch.randint(0, 3, (B, 5))
    segments[:, 0] = torch.tensor([1, 2] * 4)
    report = discover(WithSegments(), torch.randn(B, 6), torch.randn(B, 5, 6), segments)
    expected = {"head": "classifier", "splits": [4, 8], "names": ["r", "text+segments"]}
    assert best(report) == expected
    golden(prose(report))


def test_mixed_before_the_head_is_ruled_out(golden):
    class Mixed(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            gate = n.mean(1, keepdim=True) + t.mean(1, keepdim=True)
            return self.classifier(torch.cat([r * gate, n * gate, t * gate], -1))

    report = discover(Mixed(), *inputs())
    assert [c.head for c in report.candidates] == [("",)]
    assert list(reasons(report)) == ["classifier"]
    golden(prose(report))


def test_features_that_nothing_changes_belong_to_their_neighbours(golden):
    class Dead(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(15, C)

        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            zero = torch.zeros(B, 1)
            equal = [zero, r[:, :1], zero, r[:, :2], n, zero, zero, t[:, :3], zero, zero]
            return self.classifier(torch.cat(equal, -1))

    report = discover(Dead(), *inputs())
    assert best(report) == {"head": "classifier", "splits": [5, 5, 5], "names": ["r", "n", "t"]}
    golden(prose(report))


@pytest.mark.parametrize("cut", [False, True])
def test_dead_features_between_unequal_widths(cut, golden):
    class Dead(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            if cut:  # no module ever returned features of these widths
                r, n = r[:, :2], torch.cat([n, n], -1)[:, :5]
            alive = torch.zeros(n.shape[1]).index_fill(0, torch.tensor([1]), 1.0)
            return self.classifier(torch.cat([r, n * alive, t], -1))

    report = discover(Dead(), *inputs())
    found = report.candidates[0]
    assert found.names == ("r", "n", "t")
    assert found.splits == ((2, 2, 8) if cut else (4, 3, 5))  # (2, 5, 5) cannot be known
    golden(prose(report))


def test_modalities_that_share_a_backbone_by_the_batch_axis():
    class Stacked(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4))

        def forward(self, r, n, t):
            features = self.backbone(torch.cat([r, n, t])).chunk(3)
            return self.classifier(torch.cat(features, -1))

    report = discover(Stacked(), *inputs())
    expected = {"head": "classifier", "splits": [4, 4, 4], "names": ["r", "n", "t"]}
    assert [c.arguments for c in report.candidates] == [expected]


class StackedToTheEnd(ReID):
    """Visible-infrared re-identification: one backbone and one classifier for all images."""

    def __init__(self, relu: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Linear(6, 12)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.bottleneck = nn.BatchNorm1d(12)

    def forward(self, *images):
        feature = self.relu(self.backbone(torch.cat(images)))
        return self.classifier(self.bottleneck(feature)), feature


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("relu", [False, True])  # dead features look like blocks
def test_modalities_that_are_stacked_up_to_the_logits_are_said(count, relu, golden):
    report = discover(StackedToTheEnd(relu), *inputs(count))
    assert not report.candidates
    golden(prose(report))


def test_rows_that_alternate_are_of_one_modality_each(golden):
    class Alternate(StackedToTheEnd):
        def forward(self, r, n):
            return super().forward(torch.stack([r, n], 1).flatten(0, 1))

    report = discover(Alternate(), *inputs(2))
    assert not report.candidates
    golden(prose(report))


@pytest.mark.negative_control
def test_rows_that_are_combined_later_are_not_said_to_stay_apart():
    class Halves(StackedToTheEnd):
        def forward(self, *images):
            one, other = super().forward(*images)[0].chunk(2)
            return one * other

    report = discover(Halves(), *inputs(2))
    assert [c.head for c in report.candidates] == [("",)]
    assert not any("stacked on the batch axis" in note for note in report.notes)


def test_a_classifier_that_is_called_for_each_modality_is_said(golden):
    class OneByOne(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classifier = nn.Linear(6, 4), nn.Linear(4, C)

        def forward(self, *images):
            return [self.classifier(self.backbone(x)) for x in images]

    report = discover(OneByOne(), *inputs())
    assert not report.candidates
    golden(prose(report))


def test_ragged_blocks_ask_for_a_larger_batch(golden):
    class Ragged(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            parts = [r[:, :1], r[:, 1:2] + n[:, 1:2], n[:, :1], t[:, :1]] * 3
            return self.classifier(torch.cat(parts, -1))

    report = discover(Ragged(), *inputs())
    assert [c.head for c in report.candidates] == [("",)]
    golden(reasons(report)["classifier"])


def test_integers_at_the_fusion_are_left_as_they_are(golden):
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.fc = nn.Linear(6, C)

        def forward(self, image, text, mask):
            return {"logits": self.fc(self.attention(image, text, text, mask == 0)[0][:, 0])}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text, self.fusion = nn.Linear(6, 6), nn.Linear(6, 6), Attends()

        def forward(self, image, text, mask):
            return self.fusion(image=self.image(image), text=self.text(text), mask=mask)["logits"]

    mask = torch.ones(B, 5, dtype=torch.long)
    mask[::2, 3:] = 0
    mask[:, 0] = torch.arange(B) % 2 + 2
    report = discover(Model(), *inputs(2, 5, 6), mask)
    assert best(report) == {
        "head": "fusion",
        "modalities": {"image": "image", "text": "text"},
        "output": "logits",
    }
    golden(prose(report))


class Nests(nn.Module):
    """Passes containers to its head."""

    def __init__(self, call) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(6, 4), nn.Linear(6, 4)
        self.fusion, self.call = Joins(), call

    def forward(self, text, image):
        return self.call(self.fusion, self.text(text), self.image(image))


class Joins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(8, C)

    def forward(self, *args, **kwargs):
        found = [x for _, x in call_tensors((args, kwargs)) if x.is_floating_point()]
        joined = torch.cat(found, -1)
        return self.out(joined * joined.mean(-1, keepdim=True))


LENGTHS = torch.arange(B)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, t, i: f(text=(t, LENGTHS), image=i), ["text.0", "image"]),
        (lambda f, t, i: f((t, LENGTHS), image=i), ["0.0", "image"]),
        (lambda f, t, i: f(i, (t, LENGTHS)), ["1.0", 0]),
        (lambda f, t, i: f((t, LENGTHS), (i, LENGTHS)), ["0.0", "1.0"]),
        (lambda f, t, i: f(SimpleNamespace(text=t, image=i)), ["0.text", "0.image"]),
        (lambda f, t, i: f({"text": t, "image": i}), ["text", "image"]),
        (lambda f, t, i: f({"text": [t], "image": [i]}), ["0.text.0", "0.image.0"]),
    ],
)
def test_tensors_inside_of_arguments_are_named_by_paths(call, words):
    model, given = Nests(call), inputs(2)
    report = discover(model, *given)
    found = next(c for c in report.candidates if c.head == ("fusion",))
    assert found.modalities == dict(zip(("text", "image"), words, strict=True))
    assert verify(model, *given, **found.arguments).ok


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "call",
    [
        lambda f, t, i: f((t, LENGTHS), i),  # 1 would be an item of the first argument
        lambda f, t, i: f({"a.b": {"text": t, "image": i}}),
    ],
)
def test_a_head_whose_tensors_no_word_means_is_not_proposed(call):
    report = discover(Nests(call), *inputs(2))
    assert ("fusion",) not in [c.head for c in report.candidates]
    assert "cannot name where its tensors are" in reasons(report)["fusion"]
