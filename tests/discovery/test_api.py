"""Discovery: small models in the shapes of real fusion heads, and what must be found in each."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
import torch
from heads import FusionMLP
from helpers import Fused
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, DiscoverReport, discover

B, C = 8, 7
WIDTHS = {"r": 4, "n": 3, "t": 5}
SPLITS = {"splits": [4, 3, 5], "names": ["r", "n", "t"]}


def inputs(count: int = 3, *shape: int) -> list[Tensor]:
    return [torch.randn(B, *(shape or (6,))) for _ in range(count)]


def best(report: DiscoverReport) -> dict[str, object]:
    return report.candidates[0].arguments


def reasons(report: DiscoverReport) -> dict[str, str]:
    return {out.head: out.reason for out in report.ruled_out}


class ReID(nn.Module):
    """Three encoders, then whatever a subclass makes of the three features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Linear(6, width) for m, width in WIDTHS.items()})
        self.classifier = nn.Linear(12, C)

    def encode(self, r: Tensor, n: Tensor, t: Tensor) -> list[Tensor]:
        return [e(x) for e, x in zip(self.encoders.values(), (r, n, t), strict=True)]

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        return self.classifier(torch.cat(self.encode(r, n, t), -1))


def test_concatenation_then_linear():
    report = discover(ReID(), *inputs())
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]
    assert report.candidates[0].called_in_eval
    assert not report.ruled_out
    assert not report.notes


def test_the_names_follow_the_order_of_the_concatenation():
    class Backwards(ReID):
        def encode(self, *xs: Tensor) -> list[Tensor]:
            return super().encode(*xs)[::-1]

    expected = {"head": "classifier", "splits": [5, 3, 4], "names": ["t", "n", "r"]}
    assert best(discover(Backwards(), *inputs())) == expected


class Bottleneck(ReID):
    """A BatchNorm in front of the classifier, and the feature before it for a triplet loss."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.bottleneck = nn.BatchNorm1d(12)
        self.middle = middle or nn.Identity()

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        feature = torch.cat(self.encode(r, n, t), -1)
        return self.classifier(self.middle(self.bottleneck(feature))), feature


@pytest.mark.parametrize("middle", [nn.Identity(), nn.Dropout(0.5), nn.ReLU()])
def test_behind_a_bottleneck_the_classifier_alone_is_best(middle):
    report = discover(Bottleneck(middle), *inputs())
    assert [c.head for c in report.candidates] == [
        ("classifier",),
        ("bottleneck", "middle", "classifier"),
    ]
    assert best(report) == {"head": "classifier", **SPLITS}
    assert report.candidates[1].arguments == {
        "head": ["bottleneck", "middle", "classifier"],
        **SPLITS,
    }


def test_a_bottleneck_that_mixes_needs_the_chain():
    report = discover(Bottleneck(nn.Linear(12, 12)), *inputs())
    heads = [c.head for c in report.candidates]
    assert heads[0] == ("middle", "classifier")
    assert ("classifier",) not in heads


class Mixed(ReID):
    """One module mixes, then a dropout that is still here, then the classifier."""

    def __init__(self, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.mix, self.drop = nn.Linear(12, 12), nn.Dropout(0.5)
        self.classifier = classifier or nn.Linear(12, C)

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        return self.classifier(self.drop(self.mix(torch.cat(self.encode(r, n, t), -1))))


def test_a_chain_skips_no_dropout_and_goes_through_whole_modules():
    deep = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, C))
    for model in (Mixed(), Mixed(deep)):
        (found,) = discover(model, *inputs()).candidates
        assert found.head == ("mix", "drop", "classifier")


def test_a_link_with_another_argument_ends_a_chain():
    class Scales(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    class Scaled(Mixed):
        def forward(self, r, n, t):
            return self.classifier(self.mix(torch.cat(self.encode(r, n, t), -1)), 2.0)

    report = discover(Scaled(Scales(12, C)), *inputs())
    assert not report.candidates
    assert "several arguments" in reasons(report)["mix"]


def test_the_outermost_sequential_is_preferred_to_its_parts():
    head = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, C))
    report = discover(_with_head(head), *inputs())
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]


def _with_head(head: nn.Module) -> ReID:
    model = ReID()
    model.classifier = head
    return model


class Fusion(nn.Module):
    """Six tensors by position, as in DeMo's mixture: token maps, then global features."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(24, 10)

    def forward(self, rm, nm, tm, r, n, t):
        feature = torch.cat([rm.mean(1), nm.mean(1), tm.mean(1), r, n, t], -1)
        mixed = self.mix(feature).tanh()
        return (mixed, mixed.square().mean()) if self.training else mixed


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(6, 4)
        self.generalFusion = Fusion()
        self.bottleneck_moe = nn.BatchNorm1d(10)
        self.classifier_moe = nn.Linear(10, C)

    def forward(self, x):
        maps = [self.tokens(x[m]) for m in ("RGB", "NI", "TI")]
        fused = self.generalFusion(*maps, *[m[:, 0] for m in maps])
        if not self.training:
            return self.bottleneck_moe(fused)
        feature, loss = fused
        return self.classifier_moe(self.bottleneck_moe(feature)), feature, loss


def test_a_fusion_of_six_tensors_gives_a_chain_with_an_output():
    report = discover(Mixture(), dict(zip(("RGB", "NI", "TI"), inputs(3, 5, 6), strict=True)))
    assert [c.arguments for c in report.candidates] == [
        {
            "head": ["generalFusion", "bottleneck_moe", "classifier_moe"],
            "modalities": {"RGB": [0, 3], "NI": [1, 4], "TI": [2, 5]},
            "output": [0, None, None],
        }
    ]
    assert not report.candidates[0].called_in_eval


class DictFusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, C)

    def forward(self, features):
        return self.mix(torch.cat([features["a"] * 2, features["b"]], -1))


class LateFusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(6, 4)
        self.fusion_module = DictFusion()

    def forward(self, audio, video):
        return self.fusion_module({"a": self.audio(audio), "b": self.video(video)})


def test_a_dict_of_tensors():
    audio, video = inputs(2)
    report = discover(LateFusion(), {"audio": audio, "video": video})
    assert best(report) == {"head": "fusion_module", "modalities": {"audio": "a", "video": "b"}}
    assert report.candidates[1].head == ("fusion_module.mix",)


class Product(nn.Module):
    def forward(self, parts):
        return parts[0] * parts[1] + parts[1]


class Concat(nn.Module):
    def forward(self, parts):
        return torch.cat(parts, -1)


class MultiBench(nn.Module):
    def __init__(self, fuse: nn.Module, width: int, classes: int = C) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)])
        self.fuse, self.head = fuse, nn.Linear(width, classes)

    def forward(self, xs):
        return self.head(self.fuse([e(x) for e, x in zip(self.encoders, xs, strict=True)]))


def test_a_list_that_is_fused_then_the_head():
    report = discover(MultiBench(Product(), 4), inputs(2))
    chain = {"head": ["fuse", "head"], "modalities": {"xs0": 0, "xs1": 1}}
    assert [c.arguments for c in report.candidates] == [chain]
    report = discover(MultiBench(Concat(), 8), inputs(2))
    single = {"head": "head", "splits": [4, 4], "names": ["xs0", "xs1"]}
    assert [c.arguments for c in report.candidates] == [single, chain]


def test_one_logit_asks_for_its_measure():
    report = discover(MultiBench(Concat(), 8, classes=1), inputs(2))
    assert best(report)["measure"] == "bernoulli"


class OGM(nn.Module):
    class Fuse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, C)

        def forward(self, x, y):
            return x, y, self.fc(torch.cat([x, y], 1))

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.visual = nn.Linear(6, 4), nn.Linear(6, 4)
        self.fusion_module = self.Fuse()

    def forward(self, audio, visual):
        return self.fusion_module(self.audio(audio), self.visual(visual))


def test_logits_among_other_outputs():
    report = discover(OGM(), *inputs(2))
    expected = {
        "head": "fusion_module",
        "modalities": {"audio": 0, "visual": 1},
        "output": 2,
    }
    inner = {"head": "fusion_module.fc", "splits": [4, 4], "names": ["audio", "visual"]}
    assert [c.arguments for c in report.candidates] == [expected, inner]
    assert not report.ruled_out


class Experts(nn.Module):
    """Seven experts: r, n, t, rn, rt, nt, rnt."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Linear(6, 3) for m in "rnt"})
        self.subsets = ["r", "n", "t", "rn", "rt", "nt", "rnt"]
        self.experts = nn.ModuleDict({s: nn.Linear(3 * len(s), 2) for s in self.subsets})
        self.classifier_moe = nn.Linear(14, C)

    def forward(self, r, n, t):
        features = {m: self.encoders[m](x) for m, x in zip("rnt", (r, n, t), strict=True)}
        given = {s: torch.cat([features[m] for m in s], -1) for s in self.subsets}
        return self.classifier_moe(torch.cat([self.experts[s](x) for s, x in given.items()], -1))


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


def test_shared_blocks_come_after_modalities_that_stand_apart():
    class Both(Experts):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(9, C)

        def forward(self, r, n, t):
            features = [e(x) for e, x in zip(self.encoders.values(), (r, n, t), strict=True)]
            return self.classifier(torch.cat(features, -1)), super().forward(r, n, t)

    heads = [c.head for c in discover(Both(), *inputs()).candidates]
    assert heads == [("classifier",), ("classifier_moe",)]


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


def test_a_text_and_its_mask_count_as_one():
    class WithMask(ReID):
        def forward(self, r, text, mask):
            text = text * mask.unsqueeze(-1)
            return self.classifier(torch.cat(self.encode(r, text[:, 0], text.mean(1)), -1))

    mask = (torch.rand(B, 5) > 0.3).long()
    mask[:, 0] = torch.tensor([0, 1] * 4)
    report = discover(WithMask(), torch.randn(B, 6), torch.randn(B, 5, 6), mask)
    assert best(report) == {"head": "classifier", "splits": [4, 8], "names": ["r", "text+mask"]}
    assert "counted as one" in report.candidates[0].reason


class InTraining(ReID):
    """The classifier is called in training only; another Linear in eval mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.reduction = nn.Linear(12, 3)
        self.parts = nn.ModuleList([nn.Linear(12, 2)])

    def forward(self, r, n, t):
        feature = torch.cat(self.encode(r, n, t), -1)
        feature = feature + nn.functional.linear(feature, self.parts[0].weight).mean() * 0
        return self.classifier(feature) if self.training else self.reduction(feature)


@pytest.mark.parametrize("training", [True, False])
def test_a_classifier_that_eval_mode_skips_and_modules_that_training_skips(training, capsys):
    report = discover(InTraining().train(training), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.candidates[0].called_in_eval
    assert reasons(report)["reduction"] == "called in eval mode only"
    assert reasons(report)["parts.0"].startswith("never called as a module in training")
    assert "not called" in capsys.readouterr().out


def test_mixed_before_the_head_is_ruled_out(capsys):
    class Mixed(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            gate = n.mean(1, keepdim=True) + t.mean(1, keepdim=True)
            return self.classifier(torch.cat([r * gate, n * gate, t * gate], -1))

    report = discover(Mixed(), *inputs())
    assert not report.candidates
    assert reasons(report)["classifier"].startswith("mixed already: r and n and t")
    assert "put everything from the concatenation" in report.notes[-1]
    assert "mixed already" in capsys.readouterr().out


def test_a_function_between_the_fusion_and_the_logits_is_said():
    class Between(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(12, 12)

        def forward(self, r, n, t):
            return self.classifier(self.mix(torch.cat(self.encode(r, n, t), -1)).tanh())

    report = discover(Between(), *inputs())
    assert not report.candidates
    assert "plain functions" in reasons(report)["mix"]
    assert "mixed already" in reasons(report)["classifier"]


def test_a_head_of_one_modality_is_ruled_out():
    class PerModality(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.classifier_r = nn.Linear(4, C)

        def forward(self, r, n, t):
            features = self.encode(r, n, t)
            return self.classifier(torch.cat(features, -1)), self.classifier_r(features[0])

    report = discover(PerModality(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    assert reasons(report) == {"classifier_r": "it depends on r only"}


def test_a_discarded_output_is_ruled_out():
    class Discards(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(12, C)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            self.unused(feature)
            return self.classifier(feature)

    report = discover(Discards(), *inputs())
    assert [c.head for c in report.candidates] == [("classifier",)]
    assert "discarded" in reasons(report)["unused"]


def test_a_head_that_is_called_twice_is_ruled_out():
    class Twice(ReID):
        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.classifier(feature * 2)

    report = discover(Twice(), *inputs())
    assert not report.candidates
    assert reasons(report)["classifier"] == "called 2 times in a forward"


def test_a_module_that_holds_the_backbone_comes_last():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ReID()

        def forward(self, r, n, t):
            return self.net(r, n, t)

    report = discover(Whole(), *inputs())
    assert [c.head for c in report.candidates] == [("net.classifier",), ("net",)]
    assert "runs all of it again" in report.candidates[1].reason


def test_features_that_nobody_changes_belong_to_their_neighbours():
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
    assert "check 8-10" in report.candidates[0].reason


def test_one_input_tensor_is_refused():
    with pytest.raises(CMIEIError, match="two modalities cannot be found") as caught:
        discover(Fused(), torch.randn(B, 6))
    assert "splits=" in caught.value.remedy
    with pytest.raises(CMIEIError, match="two modalities cannot be found"):
        discover(ReID(), *[x[:1] for x in inputs()])  # one sample
    with pytest.raises(CMIEIError, match="cannot be called with these inputs"):
        discover(ReID(), *inputs(2))


def test_labels_and_masks_of_ones_are_no_modalities():
    class WithLabel(ReID):
        def forward(self, r, n, t, label, mask):
            return super().forward(r, n, t) + label.unsqueeze(1) + mask.sum()

    label, mask = torch.arange(B), torch.ones(B, 3, dtype=torch.long)
    assert best(discover(WithLabel(), *inputs(), label, mask)) == {"head": "classifier", **SPLITS}


def test_equal_samples_are_told_apart_by_noise():
    assert best(discover(ReID(), *[torch.zeros(B, 6)] * 3)) == {"head": "classifier", **SPLITS}


def test_an_input_without_effect_is_said():
    class Ignores(ReID):
        def forward(self, r, n, t, u):
            return super().forward(r, n, t)

    report = discover(Ignores(), *inputs(4))
    assert best(report) == {"head": "classifier", **SPLITS}
    assert report.notes == ("exchanging u changes nothing that the model returns",)


def test_a_model_that_is_random_says_so(capsys):
    class Noise(nn.Module):
        generator = torch.Generator()

        def forward(self, x):
            return x + torch.randn(x.shape, generator=self.generator)

    class Noisy(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.noise = Noise()

        def forward(self, r, n, t):
            return self.classifier(self.noise(torch.cat(self.encode(r, n, t), -1)))

    report = discover(Noisy(), *inputs())
    assert not report.candidates
    assert "two runs with the same inputs differ, first in: noise" in report.notes[0]
    assert "two runs" in capsys.readouterr().out


def test_functional_dropout_is_no_noise():
    class Drops(ReID):
        def encode(self, *xs):
            return [nn.functional.dropout(x, 0.5, self.training) for x in super().encode(*xs)]

    assert best(discover(Drops(), *inputs())) == {"head": "classifier", **SPLITS}


class OwnLinear(nn.Linear):
    """Not torch's own: it is in training mode in the training branch, where attachments work."""


class Stateful(Bottleneck):
    """Moves whatever a forward can move."""

    def __init__(self) -> None:
        super().__init__(nn.Dropout(0.5))
        self.classifier = OwnLinear(12, C)
        self.calls = 0
        self.losses: list[Tensor] = []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, r, n, t):
        self.calls += 1
        self.seen += 1
        logits, feature = super().forward(r.mul_(2), n, t)
        self.losses.append(torch.rand(()) * random.random())
        return logits, feature


def test_nothing_is_left_behind():
    model, xs = Stateful(), inputs()
    model.bottleneck.eval()
    model.encoders["r"].weight.requires_grad_(False)
    handle = cmiei_hooks.attach(model, head="classifier", splits=[4, 3, 5], log=False)
    handle.set_epoch(0)
    logits, _ = model(*[x.clone() for x in xs])
    logits.sum().backward()

    def state() -> list[object]:
        tensors = [*model.parameters(), *model.buffers(), *xs]
        tensors += [p.grad for p in model.parameters() if p.grad is not None]
        hooks = [
            (dict(m._forward_hooks), dict(m._forward_pre_hooks), m.training)
            for m in model.modules()
        ]
        versions = [(id(x), x._version, x.tolist(), x.requires_grad) for x in tensors]
        rng = (torch.get_rng_state().tolist(), random.getstate())
        kept = (model.calls, list(map(id, model.losses)), handle.step, torch.is_grad_enabled())
        return [versions, hooks, rng, kept]

    before = state()
    report = discover(model, *xs)
    assert report.candidates[0].head == ("classifier",)
    assert state() == before


def test_nothing_is_left_behind_by_a_model_that_fails():
    class Fails(ReID):
        def forward(self, r, n, t):
            super().forward(r, n, t)
            raise RuntimeError("no")

    model = Fails()
    with pytest.raises(RuntimeError, match="no"):
        discover(model, *inputs())
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


MODELS = [
    (ReID, inputs),
    (Bottleneck, inputs),
    (Mixture, lambda: [dict(zip(("RGB", "NI", "TI"), inputs(3, 5, 6), strict=True))]),
    (OGM, lambda: inputs(2)),
    (Experts, inputs),
    (lambda: MultiBench(Concat(), 8, classes=1), lambda: [inputs(2)]),
]


@pytest.mark.parametrize(("build", "given"), MODELS)
def test_the_printed_lines_are_python(build, given, monkeypatch, capsys):
    model = build()
    report = discover(model, *given())
    got = []
    monkeypatch.setattr(cmiei_hooks, "attach", lambda *args, **kwargs: got.append((args, kwargs)))
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith("cmiei_hooks.attach(")]
    assert lines == [c.line for c in report.candidates]  # whole, however wide the terminal is
    for line in lines:
        eval(line, {"cmiei_hooks": cmiei_hooks, "model": model})
    assert got == [((model,), c.arguments) for c in report.candidates]


def test_the_line_of_a_plain_head():
    (line,) = [c.line for c in discover(ReID(), *inputs()).candidates]
    expected = 'head="classifier", splits=[4, 3, 5], names=["r", "n", "t"]'
    assert line == f"cmiei_hooks.attach(model, {expected})"


def test_a_wrapped_model_gives_the_names_of_the_bare_one():
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = ReID()

        def forward(self, r, n, t):
            return self.module(r, n, t)

    assert best(discover(Wrapper(), *inputs())) == {"head": "classifier", **SPLITS}


@pytest.mark.parametrize("cut", [False, True])
def test_dead_features_between_unequal_widths(cut):
    class Dead(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            if cut:  # no module ever returned features of these widths
                r, n = r[:, :2], torch.cat([n, n], -1)[:, :5]
            alive = torch.zeros(n.shape[1]).index_fill(0, torch.tensor([1]), 1.0)
            return self.classifier(torch.cat([r, n * alive, t], -1))

    found = discover(Dead(), *inputs()).candidates[0]
    assert found.names == ("r", "n", "t")
    assert found.splits == ((2, 2, 8) if cut else (4, 3, 5))  # (2, 5, 5) cannot be known
    gaps = "2-3, 4-7" if cut else "4-5, 6-7"
    assert f"check {gaps}, which nothing changes" in found.reason
    assert ("is a guess" in found.reason) == cut


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


def test_a_loss_or_probabilities_behind_the_logits_do_not_hide_them():
    class WithLoss(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.softmax = nn.CrossEntropyLoss(), nn.Softmax(-1)

        def forward(self, r, n, t, label):
            logits = super().forward(r, n, t)
            return {"loss": self.loss(logits, label), "p": self.softmax(logits).detach()}

    report = discover(WithLoss(), *inputs(), torch.arange(B) % C)
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]


def test_normalised_features_are_no_logits():
    class Embeds(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.bn_neck = nn.BatchNorm1d(12)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.bn_neck(feature)

    assert [c.head for c in discover(Embeds(), *inputs()).candidates] == [("classifier",)]


@dataclass
class Output:
    features: list[Tensor]
    extra: dict[str, list[Tensor]]


class Nested(nn.Linear):
    def forward(self, x):
        return Output([x.tanh()], {"all": [super().forward(x)]})


def test_logits_deep_in_an_output_are_read_by_a_function():
    report = discover(_with_head(Nested(12, C)), *inputs())
    (found,) = [c for c in report.candidates if "extra" in c.line]
    assert found.line.endswith('output=lambda out: out.extra["all"][0])')
    written = eval(found.line.partition("output=")[2][:-1])
    returned = Nested(12, C)(torch.randn(B, 12))
    assert written(returned) is found.output[0](returned) is returned.extra["all"][0]


def test_rounding_that_differs_from_run_to_run_is_no_change():
    """As atomic additions on a GPU do: the last digits of everything move."""

    class Rounding(nn.Module):
        generator = torch.Generator()

        def forward(self, x):
            return x * (1 + 1e-6 * torch.rand(x.shape, generator=self.generator))

    report = discover(_with_head(nn.Sequential(Rounding(), nn.Linear(12, C))), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    model = ReID()
    model.encoders = nn.ModuleDict(
        {m: nn.Sequential(e, Rounding()) for m, e in model.encoders.items()}
    )
    report = discover(model, *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.notes


def test_an_attachment_that_discovery_suggests_works():
    model, xs = ReID(), inputs()
    handle = cmiei_hooks.attach(
        model, **best(discover(model, *xs)), log=False, warmup_epochs=0, abs_thr=0.0
    )
    model(*xs)
    assert not math.isnan(handle.metrics()["Hist_t"])  # it was measured


def test_ragged_blocks_ask_for_a_larger_batch():
    class Ragged(ReID):
        def forward(self, r, n, t):
            r, n, t = self.encode(r, n, t)
            parts = [r[:, :1], r[:, 1:2] + n[:, 1:2], n[:, :1], t[:, :1]] * 3
            return self.classifier(torch.cat(parts, -1))

    report = discover(Ragged(), *inputs())
    assert not report.candidates
    assert "larger batch" in reasons(report)["classifier"]


def test_every_head_of_a_model_is_found():
    class TwoHeads(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(12, 3)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.second(feature)

    heads = [c.head for c in discover(TwoHeads(), *inputs()).candidates]
    assert sorted(heads) == [("classifier",), ("second",)]


def test_a_mask_at_the_fusion_is_left_as_it_is():
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
    report = discover(Model(), *inputs(2, 5, 6), mask)
    assert best(report) == {
        "head": "fusion",
        "modalities": {"image": "image", "text": "text"},
        "output": "logits",
    }
    assert "mask is there in whole numbers and stays as it is" in report.candidates[0].reason


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_inside_of_torch_do_no_harm():
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1)

        def forward(self, text):
            padding = torch.zeros(text.shape[:2], dtype=torch.bool)
            padding[::2, 3:] = True
            return self.encoder(text, src_key_padding_mask=padding)[:, 0]

    model = ReID()
    model.encoders["t"] = nn.Sequential(Text(), nn.Linear(6, 5))
    report = discover(model, *inputs(2), torch.randn(B, 5, 6))
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]


def test_a_model_that_fails_in_eval_mode_is_discovered_in_training():
    class TrainingOnly(ReID):
        def forward(self, r, n, t):
            if not self.training:
                raise NotImplementedError("eval\nneeds more")
            return super().forward(r, n, t)

    report = discover(TrainingOnly(), *inputs())
    assert best(report) == {"head": "classifier", **SPLITS}
    assert not report.candidates[0].called_in_eval
    failed = "in eval mode the model fails with these inputs (NotImplementedError: eval)"
    assert report.notes[0] == failed


def test_a_batch_that_the_model_doubles_itself():
    class Doubled(FusionMLP):
        def forward(self, a, b):
            features = torch.cat([self.backbone.encoders[0](a), self.backbone.encoders[1](b)], -1)
            if self.training:
                features = torch.cat([features, features + 0.1])
            return self.head(self.fusion_mlp(features))

    found = discover(Doubled(), torch.randn(8, 6), torch.randn(8, 6)).candidates[0]
    assert found.arguments == {
        "head": ["fusion_mlp", "head"],
        "splits": [4, 4],
        "names": ["a", "b"],
    }
