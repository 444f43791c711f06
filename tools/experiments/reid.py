"""Tri-modal re-identification as its code bases do it: BNNeck, identity loss and triplet loss.

``cmiei validate --train tools.experiments.reid:train``. Of this package only the loop knows
anything: it is given ``attach``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmiei_hooks import Handle

from .reid_world import MODALITIES, WIDTH, Images, World, identity_batches, make_images
from .retrieval import retrieval

__all__ = ["TriModalModel", "evaluate", "train", "triplet_loss"]

FEATURES = 64
PEOPLE, SHOTS = 16, 4


class TriModalModel(nn.Module):
    """One encoder for each modality, concatenation, BatchNorm bottleneck, classifier."""

    def __init__(self, identities: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, FEATURES))
            for _ in MODALITIES
        )
        width = FEATURES * len(MODALITIES)
        self.bottleneck = nn.BatchNorm1d(width)
        self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, *views: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Views ``[B, 64]`` to logits ``[B, identities]`` and the feature ``[B, 192]`` in front of
        the bottleneck; in eval mode to the feature behind it, ``[B, 192]``.
        """
        blocks = [encode(view) for encode, view in zip(self.encoders, views, strict=True)]
        feature = torch.cat(blocks, dim=1)
        embedding: Tensor = self.bottleneck(feature)
        return (self.classifier(embedding), feature) if self.training else embedding


def train(
    attach: Callable[..., Handle],
    seed: int,
    *,
    epochs: int = 30,
    world: World | Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Train from a seed, and test on identities that were not seen in training.

    The seed also decides the data (identities, sensors and cameras), so the seeds vary as other
    problems of this kind would. Runs with the same seed have the same data, initial weights and
    batches, whatever ``attach`` does. Sets torch's seed.

    Args:
        attach: ``cmiei_hooks.attach``, or anything that is called in the same way.
        seed: decides everything random.
        epochs: the number of epochs.
        world: the data, or what ``World.of`` takes; None for ``World()``.

    Returns:
        The metrics of ``evaluate``.
    """
    world = world if isinstance(world, World) else World.of(world or {})
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, unseen = make_images(world, generator)
    model = TriModalModel(world.train_identities)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    handle = attach(model, head="classifier", splits=[FEATURES] * len(MODALITIES), names=MODALITIES)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        model.train()
        for batch in identity_batches(images.ids, PEOPLE, SHOTS, generator):
            who = images.ids[batch]
            logits, feature = model(*(view[batch] for view in images.views))
            loss = functional.cross_entropy(logits, who, label_smoothing=0.1)
            loss = loss + triplet_loss(feature, who)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
    handle.remove()
    return evaluate(model, unseen)


def triplet_loss(feature: Tensor, ids: Tensor) -> Tensor:
    """The batch-hard triplet loss with soft margin.

    The mean over the samples of ``softplus(p - n)``, where p is the Euclidean distance to the
    farthest sample of the same identity and n that to the nearest sample of another one.

    Args:
        feature: ``[B, D]``, with two or more identities.
        ids: integers ``[B]``.
    """
    # The fast mode computes distances as differences of squares: near 0 they are noise.
    distance = torch.cdist(feature, feature, compute_mode="donot_use_mm_for_euclid_dist")
    same = ids[:, None] == ids
    positive = distance.masked_fill(~same, 0).amax(1)
    negative = distance.masked_fill(same, torch.inf).amin(1)
    return functional.softplus(positive - negative).mean()


@torch.no_grad()
def evaluate(model: nn.Module, images: Images) -> dict[str, float]:
    """Retrieval with all modalities, without each of them, and by each of them alone.

    The first image of each identity by each camera is a query, the others are the gallery. Without
    a modality, its block of the embedding after the bottleneck is zero, as with the ``zero`` drop
    at the classifier.

    Returns:
        ``mAP``, ``Rank-1``, ``Rank-5``, ``Rank-10``; the same followed by `` without <m>`` and by
        `` alone <m>`` for each modality m; and ``worst mAP missing``. All are shares.
    """
    model.eval()
    embedding = model(*images.views)
    place = images.ids * (images.cameras.max() + 1) + images.cameras
    query = torch.ones_like(place, dtype=torch.bool)
    query[1:] = place[1:] != place[:-1]

    def metrics(kept: list[bool]) -> dict[str, float]:
        columns = torch.tensor(kept).repeat_interleave(FEATURES)
        left, ids, cameras = embedding * columns, images.ids, images.cameras
        return retrieval(
            left[query], left[~query], ids[query], ids[~query], cameras[query], cameras[~query]
        )

    count = len(MODALITIES)
    without = {
        f"{metric} without {name}": value
        for m, name in enumerate(MODALITIES)
        for metric, value in metrics([other != m for other in range(count)]).items()
    }
    alone = {
        f"{metric} alone {name}": value
        for m, name in enumerate(MODALITIES)
        for metric, value in metrics([other == m for other in range(count)]).items()
    }
    worst = {"worst mAP missing": min(without[f"mAP without {name}"] for name in MODALITIES)}
    return metrics([True] * count) | without | worst | alone
