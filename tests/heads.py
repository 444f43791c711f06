"""Small models with the fusion heads of public models: what the head receives and returns.

Each says where its modalities are twice: as the tool is told, and by hand in ``pieces``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

D, CLASSES, BATCH = 4, 5, 8
"""Width of one modality's features."""


class Backbone(nn.Module):
    """Three encoders with tokens ``[B, 3, D]`` and a global feature ``[B, D]`` each."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(6, D) for _ in range(count))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tokens = [torch.tanh(encode(x)) for encode in self.encoders]
        return tokens, [t.mean(1) for t in tokens]


class Bottleneck(nn.Module):
    """As DeMo with DIRECT 1, TOP-ReID and EDITOR: a classifier that eval mode skips."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.bottleneck = nn.BatchNorm1d(3 * D)
        self.classifier = nn.Linear(3 * D, CLASSES, bias=False)
        with torch.no_grad():
            self.bottleneck.bias.normal_()  # EDITOR trains it

    def forward(self, x: Tensor) -> Any:
        features = torch.cat(self.backbone(x)[1], -1)
        if not self.training:
            return features
        return self.classifier(self.bottleneck(features)), features


class GeneralFusion(nn.Module):
    """Six tensors by position; ``(features, loss)`` in training, the features alone in eval."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6 * D, 7 * D)
        self.dropout = nn.Dropout(0.2)

    def forward(self, r: Tensor, n: Tensor, t: Tensor, rg: Tensor, ng: Tensor, tg: Tensor) -> Any:
        features = self.dropout(
            self.mix(torch.cat([r.mean(1), n.mean(1), t.mean(1), rg, ng, tg], 1))
        )
        return (features, features.square().mean()) if self.training else features


class Mixture(nn.Module):
    """As DeMo's mixture branch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.generalFusion = GeneralFusion()
        self.bottleneck_moe = nn.BatchNorm1d(7 * D)
        self.classifier_moe = nn.Linear(7 * D, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Any:
        tokens, pooled = self.backbone(x)
        if not self.training:
            return self.generalFusion(*tokens, *pooled)
        features, loss = self.generalFusion(*tokens, *pooled)
        return self.classifier_moe(self.bottleneck_moe(features)), features, loss


class Experts(nn.Module):
    """As DeMo's experts: r, n, t, rn, rt, nt, rnt in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.classifier_moe = nn.Linear(7 * D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        r, n, t = self.backbone(x)[1]
        return self.classifier_moe(torch.cat([r, n, t, r * n, r * t, n * t, r * n * t], -1))


class Concat(nn.Module):
    """As OGM-GE's fusion: ``(x, y)`` to ``(x, y, logits)``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_out = nn.Linear(2 * D, CLASSES)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, y, self.fc_out(torch.cat([x, y], dim=1))


class AudioVisual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.fusion_module = Concat()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, v = self.backbone(x)[1]
        return self.fusion_module(a, y=v)


class DictFusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc_out = nn.Linear(3 * D, CLASSES)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return self.fc_out(torch.cat(list(features.values()), dim=1))


class Benchmark(nn.Module):
    """As BalanceBenchmark: the dict that the fusion got is filled afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.fusion_module = DictFusion()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = dict(zip(["audio", "visual", "text"], self.backbone(x)[1], strict=True))
        features["output"] = self.fusion_module(features)
        return features


class LateFusion(nn.Module):
    """As TorchMultimodal: a dict by keyword, then a head that returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.fusion_module = CatDict()
        self.head_module = ReturnsDict()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        image, text = self.backbone(x)[1]
        return self.head_module(self.fusion_module(embeddings={"image": image, "text": text}))


class CatDict(nn.Module):
    def forward(self, embeddings: dict[str, Tensor]) -> Tensor:
        return torch.cat([embeddings[key] for key in sorted(embeddings)], -1)


class ReturnsDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2 * D, 6), nn.ReLU(), nn.Linear(6, CLASSES))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x, "logits": self.model(x)}


class CatList(nn.Module):
    def forward(self, inputs: list[Tensor]) -> Tensor:
        inputs[:] = [x.flatten(1) for x in inputs]  # a fusion that writes into its list
        return torch.cat(inputs, 1)


class MultiBench(nn.Module):
    """A list of tensors, then a head; some heads give one logit."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.fuse = CatList()
        self.head = nn.Sequential(nn.Linear(3 * D, 6), nn.Dropout(0.3), nn.Linear(6, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fuse(self.backbone(x)[1]))


class FusionMLP(nn.Module):
    """As AutoGluon: the batch doubles in training, LayerNorm and dropout 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.fusion_mlp = nn.Sequential(
            nn.LayerNorm(2 * D), nn.Linear(2 * D, 6), nn.LeakyReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.cat(self.backbone(x)[1], -1)
        if self.training:
            features = torch.cat([features, features.detach() + 0.1])
        return self.head(self.fusion_mlp(features))


class Functional(nn.Module):
    """As Self-MM: functions between the Linears, and one ReLU that several parts share."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.relu = nn.ReLU()
        self.layer_1 = nn.Linear(3 * D, 9)
        self.layer_2 = nn.Linear(9, 7)
        self.layer_3 = nn.Linear(7, 6)
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        fused = torch.cat([self.relu(f + 1) for f in self.backbone(x)[1]], -1)
        hidden = F.gelu(self.layer_2(self.relu(self.layer_1(fused))))
        return self.out(F.leaky_relu(self.layer_3(hidden), 0.2, inplace=True))


@dataclass
class Answer:
    loss: Tensor
    logits: Tensor


class PoolTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.linear = nn.Linear(D, CLASSES)

    def forward(self, tokens: Tensor) -> Answer:
        logits = self.linear(self.norm(tokens).amax(1))
        return Answer(logits.square().mean(), logits)


class Tokens(nn.Module):
    """Modalities as tokens ``[B, 9, D]``, a dataclass as answer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.pool = PoolTokens()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.cat(self.backbone(x)[0], 1)).logits


class Masked(nn.Module):
    """Attends to the tokens that are not padding, and classifies the mean of them."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(D, 2, batch_first=True)
        self.out = nn.Linear(D, CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        mixed = self.attend(tokens, tokens, tokens, key_padding_mask=mask)[0]
        return self.out((tokens + mixed).masked_fill(mask[..., None], 0.0).sum(1))


class PaddedText(nn.Module):
    """As ViLT: a text of any length, padded, in front of image tokens; a mask of both."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.encoder = Masked()

    def forward(self, x: Tensor) -> Tensor:
        text, image = self.backbone(x)[0]
        longest = 2 + int(x.sum() > 0)  # from batch to batch
        mask = torch.zeros(len(x), longest + 3, dtype=torch.bool)
        mask[::2, 1:longest] = True
        return self.encoder(torch.cat([text[:, :longest], image], 1), mask=mask)


class WithLengths(nn.Module):
    """The mean of each text up to its length, next to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2 * D, CLASSES)

    def forward(self, text: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
        tokens, lengths = text
        read = torch.arange(tokens.shape[1]) < lengths[:, None]
        mean = (tokens * read[..., None]).sum(1) / lengths[:, None]
        return self.out(torch.cat([mean, image], 1))


class TextOfLengths(nn.Module):
    """As recurrent encoders of text: its tokens and their number are one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.fusion = WithLengths()

    def forward(self, x: Tensor) -> Tensor:
        text, image = self.backbone(x)[0]
        return self.fusion(text=(text, torch.arange(len(x)) % 3 + 1), image=image.mean(1))


class TextAndImage(nn.Module):
    """Fused by products, as tensor fusion is: no smaller module holds the two modalities apart."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text, self.image = text, nn.Linear(6, D)
        self.norm, self.dropout = nn.BatchNorm1d(D), nn.Dropout(0.2)
        self.out = nn.Linear(D, CLASSES)

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        text = self.text(text).mean(1) + 1
        return self.out(self.dropout(self.norm(text * self.image(image))))


PAD = 9


def thirds(x: Tensor) -> list[list[Tensor]]:
    return [[x[:, :D]], [x[:, D : 2 * D]], [x[:, 2 * D :]]]


def blocks(x: Tensor, *which: int) -> list[Tensor]:
    return [x[:, i * D : (i + 1) * D] for i in which]


EXPERTS = {"r": [0, 3, 4, 6], "n": [1, 3, 5, 6], "t": [2, 4, 5, 6]}


@dataclass(frozen=True)
class Shape:
    """One kind of head."""

    make: Callable[[], nn.Module]
    where: dict[str, Any]
    """As ``attach`` is told."""
    pieces: Callable[..., list[list[Tensor]]]
    """By hand: for each modality its tensors in the arguments of the first link, as views."""
    head: Callable[..., Tensor]
    """By hand: the logits from a model and the arguments of the first link."""
    eval_mode: bool = True
    """Whether the head is called in eval mode."""
    batch: Callable[[], tuple[Tensor, ...]] = lambda: (torch.randn(BATCH, 3, 6),)
    """What the model is called with."""
    fill: int = 0
    """What takes the place of token ids."""


SHAPES = {
    "classifier": Shape(
        Bottleneck,
        {"head": "classifier", "splits": [D, D, D]},
        thirds,
        lambda m, x: m.classifier(x),
        eval_mode=False,
    ),
    "bottleneck and classifier": Shape(
        Bottleneck,
        {"head": ["bottleneck", "classifier"], "splits": [D, D, D]},
        thirds,
        lambda m, x: m.classifier(m.bottleneck(x)),
        eval_mode=False,
    ),
    "six tensors, three links": Shape(
        Mixture,
        {
            "head": ["generalFusion", "bottleneck_moe", "classifier_moe"],
            "modalities": {"r": [0, 3], "n": [1, 4], "t": [2, 5]},
            "output": [0, None, None],
        },
        lambda *a: [[a[0], a[3]], [a[1], a[4]], [a[2], a[5]]],
        lambda m, *a: m.classifier_moe(m.bottleneck_moe(m.generalFusion(*a)[0])),
        eval_mode=False,
    ),
    "experts": Shape(
        Experts,
        {
            "head": "classifier_moe",
            "modalities": {
                name: [(i * D, (i + 1) * D) for i in which] for name, which in EXPERTS.items()
            },
        },
        lambda x: [blocks(x, *which) for which in EXPERTS.values()],
        lambda m, x: m.classifier_moe(x),
    ),
    "two tensors, third output": Shape(
        AudioVisual,
        {"head": "fusion_module", "modalities": {"a": "x", "v": "y"}, "output": 2},
        lambda x, y: [[x], [y]],
        lambda m, x, y: m.fusion_module(x, y)[2],
    ),
    "a dict": Shape(
        Benchmark,
        {
            "head": "fusion_module",
            "modalities": {"a": "audio", "v": "visual", "t": "text"},
        },
        lambda d: [[d["audio"]], [d["visual"]], [d["text"]]],
        lambda m, d: m.fusion_module(d),
    ),
    "a dict by keyword, a dict returned": Shape(
        LateFusion,
        {
            "head": ["fusion_module", "head_module"],
            "modalities": {"text": "text", "image": "image"},
            "output": "logits",
        },
        lambda embeddings: [[embeddings["text"]], [embeddings["image"]]],
        lambda m, embeddings: m.head_module(m.fusion_module(embeddings))["logits"],
    ),
    "a list, one logit": Shape(
        MultiBench,
        {
            "head": ["fuse", "head"],
            "modalities": {"r": 0, "n": 1, "t": 2},
            "measure": "bernoulli",
        },
        lambda xs: [[x] for x in xs],
        lambda m, xs: m.head(m.fuse(list(xs))),
    ),
    "a list, regression": Shape(
        lambda: MultiBench(2),
        {"head": ["fuse", "head"], "modalities": {"r": 0, "n": 1, "t": 2}, "measure": "squared"},
        lambda xs: [[x] for x in xs],
        lambda m, xs: m.head(m.fuse(list(xs))),
    ),
    "doubled batch": Shape(
        FusionMLP,
        {"head": ["fusion_mlp", "head"], "splits": [D, D]},
        lambda x: [[x[:, :D]], [x[:, D:]]],
        lambda m, x: m.head(m.fusion_mlp(x)),
    ),
    "functions between Linears": Shape(
        Functional,
        {
            "head": [
                "layer_1",
                "relu",
                "layer_2",
                F.gelu,
                "layer_3",
                partial(F.leaky_relu, negative_slope=0.2),
                "out",
            ],
            "splits": {"r": D, "n": D, "t": D},
        },
        thirds,
        lambda m, x: m.out(
            F.leaky_relu(m.layer_3(F.gelu(m.layer_2(m.layer_1(x).relu()))), negative_slope=0.2)
        ),
    ),
    "padded text, then image tokens": Shape(
        PaddedText,
        {"head": "encoder", "splits": {"text": None, "image": 3}, "dim": 1},
        lambda x, mask: [[x[:, :-3]], [x[:, -3:]]],
        lambda m, x, mask: m.encoder(x, mask),
    ),
    "tokens, a dataclass": Shape(
        Tokens,
        {"head": "pool", "splits": [3, 3, 3], "dim": 1, "output": "logits", "measure": "ted"},
        lambda x: [[x[:, :3]], [x[:, 3:6]], [x[:, 6:]]],
        lambda m, x: m.pool(x).logits,
    ),
    "a tensor and its lengths": Shape(
        TextOfLengths,
        {"head": "fusion", "modalities": {"text": "text.0", "image": "image"}},
        lambda text, image: [[text[0]], [image]],
        lambda m, text, image: m.fusion(text, image),
    ),
    "the whole model": Shape(
        lambda: TextAndImage(nn.Linear(6, D)),
        {"head": "", "modalities": {"text": 0, "image": 1}},
        lambda text, image: [[text], [image]],
        lambda m, text, image: m(text, image),
        batch=lambda: (torch.randn(BATCH, 3, 6), torch.randn(BATCH, 6)),
    ),
    "the whole model, token ids": Shape(
        lambda: TextAndImage(nn.Embedding(10, D)),
        {
            "head": "",
            "modalities": {"text": "text", "image": "image"},
            "fill": {"text": PAD},
        },
        lambda text, image: [[text], [image]],
        lambda m, text, image: m(text, image),
        batch=lambda: (torch.randint(PAD, (BATCH, 3)), torch.randn(BATCH, 6)),
        fill=PAD,
    ),
}


class Decisions(nn.Module):
    """Late fusion: each modality has a classifier, and their logits are combined.

    Args:
        combine: what the model makes of the list of logits.
        shared: one classifier for all modalities.
    """

    def __init__(self, combine: Callable[[list[Tensor]], Tensor], *, shared: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(2)
        self.clf_rgb = nn.Sequential(nn.BatchNorm1d(D), nn.Dropout(0.3), nn.Linear(D, CLASSES))
        self.clf_depth = self.clf_rgb if shared else nn.Linear(D, CLASSES)
        self.combine = combine

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        rgb, depth = self.backbone(x)[1]
        logits = [self.clf_rgb(rgb), self.clf_depth(depth)]
        return self.combine(logits), logits


class Encoders(nn.Module):
    """Late fusion of whole encoders: the branches receive the input of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb = nn.Sequential(nn.Flatten(), nn.Linear(18, 6), nn.Tanh(), nn.Linear(6, CLASSES))
        self.depth = nn.Sequential(nn.Flatten(), nn.Linear(18, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.rgb(x) + self.depth(x)


def gated(logits: list[Tensor]) -> Tensor:
    """As QMF: each decision counts by its energy."""
    weights = torch.stack([z.logsumexp(1, keepdim=True) for z in logits]).softmax(0)
    return (weights * torch.stack(logits)).sum(0)


def added(logits: list[Tensor]) -> Tensor:
    return logits[0] + logits[1]


def averaged(logits: list[Tensor]) -> Tensor:
    return (logits[0] + logits[1]) / 2


@dataclass(frozen=True)
class BranchShape:
    """Late fusion: a branch for each modality."""

    make: Callable[[], nn.Module]
    where: dict[str, Any]
    """As ``attach`` is told."""
    combine: Callable[[list[Tensor]], Tensor]
    """By hand: the logits of the model from those of its branches."""
    own_heads: bool = True
    """Whether the branches receive features; else their logits are substituted."""

    @property
    def branches(self) -> list[str]:
        return list(self.where["head"].values())


BRANCHES = {"rgb": "clf_rgb", "depth": "clf_depth"}

BRANCH_SHAPES = {
    "sum": BranchShape(
        lambda: Decisions(added), {"head": BRANCHES, "combine": "sum"}, lambda z: z[0] + z[1]
    ),
    "mean": BranchShape(
        lambda: Decisions(averaged),
        {"head": BRANCHES, "combine": "mean"},
        lambda z: 0.5 * (z[0] + z[1]),
    ),
    "gated sum": BranchShape(lambda: Decisions(gated), {"head": BRANCHES, "combine": gated}, gated),
    "one classifier for all": BranchShape(
        lambda: Decisions(added, shared=True),
        {"head": {"rgb": "clf_rgb", "depth": "clf_rgb"}, "combine": "sum"},
        lambda z: z[0] + z[1],
    ),
    "whole encoders": BranchShape(
        Encoders,
        {"head": {"rgb": "rgb", "depth": "depth"}, "combine": "sum"},
        lambda z: z[0] + z[1],
        own_heads=False,
    ),
}
