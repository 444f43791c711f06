"""Small models in the shapes of real fusion heads."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from cmiei_hooks import DiscoverReport

B, C = 8, 7
WIDTHS = {"r": 4, "n": 3, "t": 5}


SPLITS = {"splits": [4, 3, 5], "names": ["r", "n", "t"]}


def inputs(count: int = 3, *shape: int) -> list[Tensor]:
    return [torch.randn(B, *(shape or (6,))) for _ in range(count)]


def best(report: DiscoverReport) -> dict[str, object]:
    return report.candidates[0].arguments


def reasons(report: DiscoverReport) -> dict[str, str]:
    return {out.head: out.reason for out in report.ruled_out}


def prose(report: DiscoverReport) -> str:
    """Every sentence of a report."""
    lines = [f"{' -> '.join(c.head)}: {c.reason}" for c in report.candidates]
    lines += [f"not {out.head}: {out.reason}" for out in report.ruled_out]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


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


class Bottleneck(ReID):
    """A BatchNorm in front of the classifier, and the feature before it for a triplet loss."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.bottleneck = nn.BatchNorm1d(12)
        self.middle = middle or nn.Identity()

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        feature = torch.cat(self.encode(r, n, t), -1)
        return self.classifier(self.middle(self.bottleneck(feature))), feature


class Mixed(ReID):
    """One module mixes, then a dropout that is still here, then the classifier."""

    def __init__(self, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.mix, self.drop = nn.Linear(12, 12), nn.Dropout(0.5)
        self.classifier = classifier or nn.Linear(12, C)

    def forward(self, r: Tensor, n: Tensor, t: Tensor) -> object:
        return self.classifier(self.drop(self.mix(torch.cat(self.encode(r, n, t), -1))))


def with_head(head: nn.Module) -> ReID:
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
