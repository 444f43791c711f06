"""Splits or names in the wrong order, and modalities that are mixed before the head."""

from __future__ import annotations

import pytest
import torch
from fusion_models import OGM, SPLITS, B, C, Experts, Mixture, ReID, Stateful, inputs
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import verify
from cmiei_hooks.verification import Check

NAME = "each modality is one input"
HEAD = {"head": "classifier", **SPLITS}


def check(model: nn.Module, *given, **where) -> Check | None:
    report = verify(model, *given, **where)
    return next((check for check in report.checks if check.name == NAME), None)


def not_checked(model: nn.Module, *given, **where) -> str:
    found = check(model, *given, **where)
    assert found is not None
    assert found.ok
    assert found.found.startswith("not checked: ")
    return found.found


def said(model: nn.Module, *given, **where) -> str:
    found = check(model, *given, **where)
    assert found is not None
    assert not found.ok
    return found.found


class Equal(ReID):
    """Three modalities of one width, in another order than the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Linear(6, 4) for m in "rnt"})

    def encode(self, *xs: Tensor) -> list[Tensor]:
        return super().encode(*xs)[::-1]


class Attention(ReID):
    """The modalities are mixed before the head, as by attention."""

    def encode(self, *xs: Tensor) -> list[Tensor]:
        r, n, t = super().encode(*xs)
        return [r + n.mean(1, keepdim=True), n, t]


def test_the_right_order_is_ok(golden):
    found = check(ReID(), *inputs(), **HEAD)
    assert found.ok
    golden(found.found)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "where",
    [
        {"splits": [3, 4, 5]},
        {"splits": [5, 3, 4], "names": ["t", "n", "r"]},
        {"splits": [4, 4, 4]},
        {"modalities": {"r": [(0, 3)], "n": [(3, 7)], "t": [(7, 12)]}},
    ],
)
def test_splits_in_the_wrong_order(where, golden):
    golden(said(ReID(), *inputs(), head="classifier", **where))


@pytest.mark.negative_control
def test_where_columns_are_dead_no_widths_are_guessed(golden):
    class Dead(ReID):
        def encode(self, *xs):
            r, n, t = super().encode(*xs)
            alive = torch.ones_like(r)
            alive[:, -1] = 0
            return [r * alive, n, t]

    golden(said(Dead(), *inputs(), head="classifier", splits=[4, 4, 4]))


@pytest.mark.negative_control
def test_names_in_the_wrong_order(golden):
    where = {"head": "classifier", "splits": [4, 4, 4]}
    golden(said(Equal(), *inputs(), **where))  # r, n, t by default
    assert check(Equal(), *inputs(), **where, names=["t", "n", "r"]).ok


def test_names_that_are_not_those_of_the_inputs_are_free():
    where = {"head": "classifier", "splits": [4, 4, 4]}
    assert check(Equal(), *inputs(), **where, names=["RGB", "NIR", "TIR"]).ok
    # As names of this model they would contradict the inputs, if all of them were inputs.
    assert check(Equal(), *inputs(), **where, names=["r", "n", "TIR"]).ok


@pytest.mark.negative_control
def test_tensors_in_the_wrong_order(golden):
    where = {"head": "fusion_module", "output": 2}
    swapped = {"audio": 1, "visual": 0}
    golden(said(OGM(), *inputs(2), **where, modalities=swapped))
    assert check(OGM(), *inputs(2), **where, modalities={"audio": 0, "visual": 1}).ok


@pytest.mark.negative_control
def test_modalities_that_are_mixed_before_the_head(golden):
    golden(said(Attention(), *inputs(), **HEAD))


@pytest.mark.negative_control
def test_a_joint_normalisation_in_front_of_the_head_mixes(golden):
    class Normalised(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(12)

        def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
            return self.classifier(self.norm(torch.cat(self.encode(r, n, t), -1)))

    golden(said(Normalised(), *inputs(), **HEAD))
    chain = {**HEAD, "head": ["norm", "classifier"]}
    assert check(Normalised(), *inputs(), **chain).ok


def test_shared_blocks_and_several_tensors_are_not_mixed():
    blocks = {
        "r": [(0, 2), (6, 8), (8, 10), (12, 14)],
        "n": [(2, 4), (6, 8), (10, 12), (12, 14)],
        "t": [(4, 6), (8, 10), (10, 12), (12, 14)],
    }
    assert check(Experts(), *inputs(), head="classifier_moe", modalities=blocks).ok
    images = dict(zip(("RGB", "NI", "TI"), inputs(3, 5, 6), strict=True))
    where = {
        "head": ["generalFusion", "bottleneck_moe", "classifier_moe"],
        "modalities": {"r": [0, 3], "n": [1, 4], "t": [2, 5]},
        "output": [0, None, None],
    }
    assert check(Mixture(), images, **where).ok
    where["modalities"] = {"r": [0, 4], "n": [1, 3], "t": [2, 5]}
    assert not check(Mixture(), images, **where).ok


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 8), nn.Embedding(9, 8)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(7 * 8, C))

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        words = self.text(text) * mask[..., None]
        return self.head(torch.cat([self.image(image), words], 1))


def test_tokens_and_a_mask_that_belongs_to_a_text():
    mask = torch.ones(B, 3, dtype=torch.long)
    mask[::2, 2:] = 0
    given = torch.randn(B, 4, 6), torch.randint(9, (B, 3)), mask
    where = {"head": "head", "dim": 1, "names": ["image", "text"]}
    assert check(Tokens(), *given, **where, splits=[4, 3]).ok
    assert not check(Tokens(), *given, **where, splits=[3, 4]).ok


class OneInput(ReID):
    def forward(self, x: Tensor) -> object:
        return super().forward(x, x, x)


class Twice(ReID):
    def forward(self, *xs: Tensor) -> object:
        return super().forward(*xs) + super().forward(*xs)


class Random(ReID):
    def encode(self, *xs: Tensor) -> list[Tensor]:
        random = torch.rand(B, 1, generator=self.generator)
        return [x + random for x in super().encode(*xs)]


class FailsInTheTrainingBranch(ReID):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        if not self.drop.training:
            raise RuntimeError("another branch")
        return super().forward(r, n, t)


def test_what_cannot_be_told_is_not_a_no(golden):
    random = Random()
    random.generator = torch.Generator()
    wrong = {"head": "classifier", "splits": [3, 4, 5]}
    golden(not_checked(OneInput(), *inputs(1), **wrong))
    golden(not_checked(Twice(), *inputs(), **wrong))
    golden(not_checked(random, *inputs(), **wrong))
    golden(not_checked(FailsInTheTrainingBranch(), *inputs(), **wrong))


class Pair(nn.Module):
    """Two inputs hold three modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.ab, self.c = nn.Linear(6, 8), nn.Linear(6, 4)
        self.classifier = nn.Linear(12, C)

    def forward(self, ab: Tensor, c: Tensor) -> Tensor:
        return self.classifier(torch.cat([self.ab(ab), self.c(c)], -1))


def test_fewer_inputs_than_modalities_are_not_a_no(golden):
    golden(not_checked(Pair(), *inputs(2), head="classifier", splits=[4, 4, 4]))


def test_a_modality_may_be_several_inputs(golden):
    where = {"head": "classifier", "names": ["rn", "t"]}
    found = check(ReID(), *inputs(), **where, splits=[7, 5])
    assert found.ok
    golden(found.found)
    golden(said(ReID(), *inputs(), **where, splits=[5, 7]))
    golden(said(Attention(), *inputs(), head="classifier", names=["r", "nt"], splits=[4, 8]))


class Conditioned(ReID):
    """A context that reaches all modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Linear(6, 12)

    def forward(self, r: Tensor, n: Tensor, t: Tensor, context: Tensor) -> object:
        features = torch.cat(self.encode(r, n, t), -1)
        return self.classifier(features * self.context(context))


def test_an_input_that_reaches_all_modalities_is_said_and_no_mixture(golden):
    found = check(Conditioned(), *inputs(4), **HEAD)
    assert found.ok
    golden(found.found)


class Fused(nn.Module):
    """As MISA: a text with its mask, images, and a transformer over all of them before the head."""

    def __init__(self, mixes: bool = True) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 8), nn.Embedding(30, 8)
        self.image = nn.Linear(6, 8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16) if mixes else nn.Identity()
        self.classifier = nn.Linear(16, C)

    def forward(self, ids: Tensor, places: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        text = ((self.words(ids) + self.places(places)) * mask[..., None]).mean(1)
        both = self.mix(torch.stack([text, self.image(image).mean(1)]))
        return self.classifier(torch.cat(list(both), -1))


def text_and_image() -> list[Tensor]:
    mask = torch.ones(B, 5, dtype=torch.long)
    mask[::2, 3:] = 0
    return [*(torch.randint(30, (B, 5)) for _ in "ip"), mask, torch.randn(B, 4, 6)]


TEXT = {"head": "classifier", "splits": {"text": 8, "image": 8}}


def test_a_text_with_positions_and_a_mask_is_one_modality(golden):
    found = check(Fused(mixes=False), *text_and_image(), **TEXT)
    assert found.ok
    golden(found.found)


def test_token_ids_that_are_mixed_with_images_before_the_head(golden):
    golden(said(Fused(), *text_and_image(), **TEXT))


@pytest.mark.negative_control
def test_token_ids_would_be_taken_for_a_mask_of_the_images(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.discovery.head_input._is_binary", lambda x: True)
    not_checked(Fused(), *text_and_image(), **TEXT)


class CrossModal(nn.Module):
    """As MulT: every modality attends to the others."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.ModuleDict({m: nn.MultiheadAttention(6, 2, dropout=0.1) for m in "lav"})
        self.proj1, self.proj2, self.out = nn.Linear(18, 18), nn.Linear(18, 18), nn.Linear(18, C)

    def forward(self, l: Tensor, a: Tensor, v: Tensor) -> Tensor:  # noqa: E741  # as in MulT
        given = {"l": l, "a": a, "v": v}
        last = []
        for m, x in given.items():
            others = torch.cat([y for n, y in given.items() if n != m], 1).transpose(0, 1)
            last.append(self.attend[m](x.transpose(0, 1), others, others)[0][-1])
        fused = torch.cat(last, 1)
        return self.out(self.proj2(torch.relu(self.proj1(fused))) + fused)


def test_cross_modal_attention_before_the_head(golden):
    golden(said(CrossModal(), *inputs(3, 5, 6), head="out", splits=[6, 6, 6]))


def test_columns_that_nothing_changes_are_no_reason_to_say_no():
    class Dead(ReID):
        def encode(self, *xs: Tensor) -> list[Tensor]:
            r, n, t = super().encode(*xs)
            return [torch.cat([r[:, :3], torch.zeros(B, 1)], 1), n, t]

    assert check(Dead(), *inputs(), **HEAD).ok
    assert check(Dead(), *inputs(), head="classifier", splits=[3, 4, 5]).ok  # who can say?
    assert not check(Dead(), *inputs(), head="classifier", splits=[5, 2, 5]).ok


def test_the_model_is_left_as_it_was():
    model, given = Stateful(), inputs()
    handle = cmiei_hooks.attach(model, **HEAD, log=False)
    handle.set_epoch(0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = [x.clone() for x in given]
    assert verify(model, *given, **HEAD).ok
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert handle.step == model.calls == 0
    assert not model.losses
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
