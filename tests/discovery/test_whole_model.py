"""The whole model is proposed as the head where nothing smaller receives separate modalities."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from fusion_models import B, C, ReID, inputs, prose
from torch import Tensor, nn

from cmiei_hooks import attach, discover, verify
from cmiei_hooks.cli.diagnose_options import add_arguments
from cmiei_hooks.cli.settings import configuration


class TensorFusion(nn.Module):
    """The outer product of the features, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(6, 3)
        self.classifier = nn.Linear(12, C)

    def forward(self, audio: Tensor, video: Tensor) -> object:
        product = torch.einsum("bi,bj->bij", self.audio(audio).tanh(), self.video(video).tanh())
        return self.classifier(product.flatten(1))


class AttentionFusion(nn.Module):
    """The text attends to the image; the text may be token ids."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text, self.image = text, nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classifier = nn.Linear(8, C)

    def forward(self, text: Tensor, image: Tensor, attention_mask: Tensor | None = None) -> object:
        text, image = self.text(text), self.image(image)
        if attention_mask is not None:
            text = text * attention_mask.unsqueeze(-1)
        return self.classifier((text + self.attention(text, image, image)[0]).mean(1))


class Features(TensorFusion):
    """Returns what re-identification code returns: features in eval mode."""

    def forward(self, audio, video):
        feature = self.audio(audio).exp() * self.video(video).sum(1, keepdim=True)
        logits = self.classifier(torch.cat([feature, feature, feature], 1))
        return {"losses": [feature.mean()], "logits": logits} if self.training else feature


class Lists(TensorFusion):
    def forward(self, parts):
        return super().forward(*parts)


class Mappings(TensorFusion):
    def forward(self, batch):
        return super().forward(batch["a"], batch["v"])


class Deep(TensorFusion):
    def forward(self, batch):
        return super().forward(batch["x"][0], batch["x"][1])


class Record(TensorFusion):
    def forward(self, batch):
        return super().forward(batch.a, batch.v)


class Pairs(TensorFusion):
    """A number alone would mean an item of the first argument."""

    def forward(self, audio, video):
        return super().forward(audio[0] * audio[1], video)


class Products(nn.Module):
    """Logits that a function computes, beside a feature that a module returns and receives."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, C), nn.Linear(6, C)
        self.aside = nn.BatchNorm1d(C)

    def forward(self, x, y):
        logits = self.one(x) * self.other(y)
        return self.aside(logits.detach() * 2), logits


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    given: Callable[[], list[object]]
    arguments: dict[str, object]


def images() -> list[object]:
    return [torch.randn(B, 5, 6), torch.randn(B, 4, 6)]


def texts() -> list[object]:
    return [torch.randint(1, 9, (B, 5)), torch.randn(B, 4, 6)]


CASES = {
    "tensor fusion": Case(
        TensorFusion, lambda: inputs(2), {"modalities": {"audio": 0, "video": 1}}
    ),
    "attention": Case(
        lambda: AttentionFusion(nn.Linear(6, 8)), images, {"modalities": {"text": 0, "image": 1}}
    ),
    "token ids": Case(
        lambda: AttentionFusion(nn.Embedding(9, 8)),
        texts,
        {"modalities": {"text": 0, "image": 1}, "fill": {"text": 0}},
    ),
    "keywords": Case(
        lambda: AttentionFusion(nn.Embedding(9, 8)),
        lambda: [dict(zip(("text", "image"), texts(), strict=True))],
        {"modalities": {"text": "text", "image": "image"}, "fill": {"text": 0}},
    ),
    "a part of the output": Case(
        Features,
        lambda: inputs(2),
        {"modalities": {"audio": 0, "video": 1}, "output": "logits"},
    ),
    "a list": Case(Lists, lambda: [inputs(2)], {"modalities": {"parts0": 0, "parts1": 1}}),
    "a dict": Case(
        Mappings,
        lambda: [dict(zip("av", inputs(2), strict=True))],
        {"modalities": {"a": "a", "v": "v"}},
    ),
    "a list in a dict": Case(
        Deep, lambda: [{"x": inputs(2)}], {"modalities": {"batch_x0": "x.0", "batch_x1": "x.1"}}
    ),
    "a namespace": Case(
        Record,
        lambda: [SimpleNamespace(**dict(zip("av", inputs(2), strict=True)))],
        {"modalities": {"a": "batch.a", "v": "batch.v"}},
    ),
    "a tensor behind a tuple": Case(
        Pairs,
        lambda: [(inputs(2)[0], torch.tensor(2.0)), inputs(2)[1]],
        {"modalities": {"audio0": 0, "video": "video"}},
    ),
    "logits of a function": Case(
        Products, lambda: inputs(2), {"modalities": {"x": 0, "y": 1}, "output": 1}
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def called(model: nn.Module, given: list[object]) -> object:
    if isinstance(given[0], dict) and not isinstance(model, (Deep, Mappings)):
        return model(**given[0])
    return model(*given)


def loss_of(returned: object, output: object) -> Tensor:
    logits = returned if output is None else returned[output]
    return nn.functional.cross_entropy(logits, torch.arange(B) % C)


def test_the_model_itself_is_proposed_and_acts(case, capsys):
    model, given = case.make(), case.given()
    report = discover(model, *given)
    (found,) = report.candidates
    assert found.arguments == {"head": "", **case.arguments}
    assert found.line in capsys.readouterr().out.splitlines()
    model.train()
    settings = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "p_max": 1.0}
    with report.attach(**settings, log=False) as handle:
        for _ in range(2):
            loss_of(called(model, given), case.arguments.get("output")).backward()
            assert handle.last.influence.shape == (B, 2)
            assert (handle.last.substituted >= 0).any()
    assert verify(model, *given, **found.arguments).ok


def test_the_options_are_read_back(case, capsys):
    report = discover(case.make(), *case.given())
    (found,) = report.candidates
    assert f"# cmiei diagnose {found.options}" in capsys.readouterr().out.splitlines()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(shlex.split(found.options))
    config = configuration(args)
    assert (config.head, config.fill) == ("", case.arguments.get("fill"))
    assert args.modalities == case.arguments["modalities"]
    assert args.logits == case.arguments.get("output")
    assert args.training_branch is (case.make is Features)


def test_a_name_that_the_option_cannot_hold_is_a_trailing_setting():
    group = {"title, text": ["text"]}
    report = discover(AttentionFusion(nn.Embedding(9, 8)), *texts(), inputs=group)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(shlex.split(report.candidates[0].options))
    assert configuration(args).fill == {"title, text": 0}


def test_the_cost_and_the_pad_id_are_said(golden, capsys):
    discover(AttentionFusion(nn.Embedding(9, 8)), *texts())
    golden(capsys.readouterr().out)


def test_a_mask_that_belongs_to_the_text_stays_as_it_is():
    mask = (torch.arange(5) < torch.arange(B)[:, None] % 4 + 2).long()
    model, group = AttentionFusion(nn.Embedding(9, 8)), ["text", "attention_mask"]
    report = discover(model, *texts(), mask, inputs={"text": group})
    assert report.candidates[0].modalities == {"text": 0, "image": 1}
    two = discover(model, *texts(), torch.rand(B, 5), inputs={"text": group})
    assert two.candidates[0].modalities == {"text": [0, 2], "image": 1}


def test_features_in_eval_mode_at_the_same_place_are_not_logits():
    class ReIDs(TensorFusion):
        def forward(self, audio, video):
            feature = self.audio(audio).repeat(1, 3) * self.video(video).repeat(1, 4)
            return self.classifier(feature) if self.training else feature

    (found,) = discover(ReIDs(), *inputs(2)).candidates
    assert found.arguments == {"head": "", "modalities": {"audio": 0, "video": 1}}
    assert found.options.endswith(" --training-branch")
    assert "returns something else in eval mode" in found.reason


def test_an_estimate_runs_the_model_as_often_as_the_note_says():
    model, given, runs = TensorFusion(), inputs(2), []
    (cost,) = discover(model, *given).notes
    model.audio.register_forward_hook(lambda *_: runs.append(1))
    where = {"head": "", "modalities": {"audio": 0, "video": 1}}
    with attach(model, **where, k=1, warmup_steps=1, p_max=0.0, log=False):
        model.train()(*given)
    assert f"runs it {len(runs) - 1} times more (1 + 2)" in cost


@pytest.mark.negative_control
def test_the_model_is_not_proposed_where_a_smaller_head_is():
    report = discover(ReID(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    assert not report.notes


class Loss(TensorFusion):
    def forward(self, audio, video):
        return super().forward(audio, video).square().mean()


class Nested(TensorFusion):
    """A path has dots, and so has a key of its arguments."""

    def forward(self, batch):
        return super().forward(*batch["x"]["a.b"])


@pytest.mark.negative_control
@pytest.mark.parametrize(
    ("make", "given"),
    [(Loss, lambda: inputs(2)), (Nested, lambda: [{"x": {"a.b": inputs(2)}}])],
    ids=["no logits", "nested arguments"],
)
def test_what_attach_cannot_name_is_not_proposed(make, given):
    report = discover(make(), *given())
    assert not report.candidates
    assert report.notes[-1].startswith("no candidate: ")


@pytest.mark.negative_control
def test_a_feature_that_the_model_returns_too_is_not_logits():
    class Both(TensorFusion):
        def forward(self, audio, video):
            feature = self.audio(audio).repeat(1, 3) * self.video(video).repeat(1, 4)
            return feature, self.classifier(feature)

    (found,) = discover(Both(), *inputs(2)).candidates
    assert found.arguments["output"] == 1
    assert prose(discover(Both(), *inputs(2))).count("logits of 7 classes") == 1


class Hidden(TensorFusion):
    """As MulT: features that functions compute are returned beside the logits made of them."""

    def forward(self, audio, video):
        one = self.audio(audio).repeat(1, 3) * self.video(video).repeat(1, 4)
        other = one.exp()
        return {"f": one, "g": other, "M": self.classifier((one + other) / 2)}


@pytest.mark.parametrize("frozen", [False, True])
def test_features_that_the_logits_are_computed_from_are_not_proposed(frozen):
    model = Hidden().requires_grad_(not frozen)
    (found,) = discover(model, *inputs(2)).candidates
    assert found.arguments["output"] == "M"


@pytest.mark.negative_control
def test_beside_the_logits_of_a_module_those_of_a_function_stay():
    class Two(TensorFusion):
        def forward(self, audio, video):
            one = self.audio(audio).repeat(1, 3) * self.video(video).repeat(1, 4)
            return {"aux": self.classifier(one.detach() * 2), "fused": one * one}

    found = discover(Two(), *inputs(2)).candidates
    assert [one.arguments["output"] for one in found] == ["aux", "fused"]


@pytest.mark.negative_control
def test_a_model_without_gradient_is_still_found():
    class OfNumpy(Hidden):
        def forward(self, audio, video):
            return super().forward(torch.tensor(audio.numpy()), video)

    assert len(discover(OfNumpy(), *inputs(2)).candidates) == 3
