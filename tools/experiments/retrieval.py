"""Metrics of re-identification: how well the gallery is ranked for each query."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from cmiei_hooks.errors import InputError

__all__ = ["RANKS", "retrieval"]

RANKS = (1, 5, 10)


def retrieval(
    query: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
) -> dict[str, float]:
    """Mean average precision and cumulative matching at ranks 1, 5 and 10.

    For each query the gallery is ranked by the Euclidean distance of the L2-normalised embeddings;
    equal distances keep the order of the gallery. Gallery entries with the identity *and* the
    camera of the query are removed first. A query without a match in what is left does not count.

    Args:
        query: ``[Q, D]`` embeddings of any length; a zero vector is equally far from all others.
        gallery: ``[G, D]``.
        query_ids: integers ``[Q]``.
        gallery_ids: integers ``[G]``.
        query_cameras: integers ``[Q]``.
        gallery_cameras: integers ``[G]``.

    Returns:
        ``mAP``, ``Rank-1``, ``Rank-5``, ``Rank-10``, as shares from 0 to 1.

    Raises:
        InputError: the shapes contradict each other, an embedding is not finite, or no query has a
            match in another camera.
    """
    _check(query, query_ids, query_cameras, "query")
    _check(gallery, gallery_ids, gallery_cameras, "gallery")
    same_identity = query_ids[:, None] == gallery_ids
    kept = ~(same_identity & (query_cameras[:, None] == gallery_cameras))
    # Between unit vectors the smallest distance is the largest cosine.
    cosine = functional.normalize(query.double()) @ functional.normalize(gallery.double()).T
    order = cosine.argsort(dim=1, descending=True, stable=True)
    kept = kept.gather(1, order)
    hit = same_identity.gather(1, order) & kept
    counted = hit.any(1)
    if not counted.any():
        raise InputError(
            "no query has a match",
            got=f"{len(query)} queries, {len(gallery)} gallery entries",
            expected="a gallery entry with the identity of a query and another camera",
            remedy="split the images of each identity so that both sides have several cameras",
        )
    hit, kept = hit[counted], kept[counted]
    rank = kept.cumsum(1)  # the rank of a removed entry means nothing: it is never a hit
    precision = hit.cumsum(1).double() / rank.clamp_min(1)
    average = (precision * hit).sum(1) / hit.sum(1)
    metrics = {"mAP": average.mean().item()}
    for most in RANKS:
        found = (hit & (rank <= most)).any(1)
        metrics[f"Rank-{most}"] = found.double().mean().item()
    return metrics


def _check(embeddings: Tensor, ids: Tensor, cameras: Tensor, side: str) -> None:
    rows = embeddings.shape[:1]
    if embeddings.dim() != 2 or ids.shape != rows or cameras.shape != rows:
        raise InputError(
            f"the {side} does not have one embedding, identity and camera for each image",
            got=f"embeddings {list(embeddings.shape)}, identities {list(ids.shape)}, "
            f"cameras {list(cameras.shape)}",
            expected="[N, D], [N], [N]",
            remedy=f"stack the embeddings of the {side} along the first axis",
        )
    if not embeddings.isfinite().all():
        broken = int((~embeddings.isfinite().all(1)).sum())
        raise InputError(
            f"embeddings of the {side} are NaN or infinite",
            got=f"{broken} of {len(embeddings)}",
            expected="finite numbers",
            remedy="look for the epoch in which training diverged",
        )
