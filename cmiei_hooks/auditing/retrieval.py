"""Retrieval by what the head receives, where the labels are identities and not classes of the head.

Each sample is looked for among all others by cosine similarity, with all modalities and without
each of them. ``N`` is the samples, ``M`` the modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fusion import Captured, call_tensors
from .bootstrap import bootstrap
from .results import Retrieval
from .saved_call import SavedCall

__all__ = ["MOST", "Vectors", "first_ranks", "retrieval_of", "vectors_of"]

MOST = 4096
"""The most samples that are looked for among each other: the first ones."""

_AT_ONCE = 512
"""The samples that are looked for at once."""
_TINY = 1e-30
"""A vector of zeros is as far from all others."""


@dataclass(frozen=True)
class Vectors:
    """What the head received in one call: a vector of each modality for each sample."""

    batch: int
    """The number of the batch."""
    features: tuple[Tensor, ...]
    """``[B, D]`` of each modality, float32 on the CPU."""
    label: Tensor
    """int64 ``[B]``, the identities."""
    group: tuple[str, ...] | None
    """The group (camera) of each sample."""

    @property
    def widths(self) -> list[int]:
        """D of each modality."""
        return [part.shape[1] for part in self.features]


def vectors_of(captured: Captured, saved: SavedCall) -> Vectors | None:
    """What a call shows; None without labels, or where the head does not receive vectors."""
    if saved.label is None:
        return None
    tensors = dict(call_tensors(saved.call))
    pieces = [list(captured.views(tensors, m)) for m in range(len(captured.groups))]
    flat = [piece for group in pieces for piece in group]
    if not all(piece.dim() == 2 and piece.is_floating_point() for piece in flat):
        return None
    features = tuple(torch.cat(group, dim=1).float() for group in pieces)
    return Vectors(saved.batch, features, saved.label.cpu(), saved.group)


def first_ranks(features: Sequence[Tensor], identity: Tensor, group: Tensor | None) -> Tensor:
    """At which rank the first sample of the same identity is found.

    As in re-identification, samples with the identity and the group (camera) of the one that is
    looked for do not count. Equal similarities count against it.

    Args:
        features: ``[N, D]`` of each modality; another length of D for each may do.
        identity: int64 ``[N]``.
        group: int64 ``[N]``; None: only the sample itself does not count.

    Returns:
        float64 ``[N, 1 + M]``: the rank from 1 with all modalities, then without each; NaN for
        samples without another one of their identity.
    """
    each = range(len(features))
    sets = [list(each), *([m for m in each if m != left_out] for left_out in each)]
    squares = torch.stack([part.square().sum(1) for part in features])
    scales = [squares[kept].sum(0).clamp(min=_TINY).rsqrt() for kept in sets]
    everyone = torch.arange(len(identity))
    ranks = torch.full((len(identity), len(sets)), math.nan, dtype=torch.float64)
    for rows in torch.split(everyone, _AT_ONCE):
        same = identity[rows, None] == identity
        ignored = rows[:, None] == everyone
        if group is not None:
            ignored |= same & (group[rows, None] == group)
        match = same & ~ignored
        found = match.any(1)
        products = torch.stack([part[rows] @ part.T for part in features])
        for column, (kept, scale) in enumerate(zip(sets, scales, strict=True)):
            cosine = products[kept].sum(0) * scale[rows, None] * scale
            best = cosine.masked_fill(~match, -math.inf).amax(1, keepdim=True)
            before = (~same & (cosine >= best)).sum(1).double()
            ranks[rows, column] = torch.where(found, before + 1, math.nan)
    return ranks


def retrieval_of(
    names: Sequence[str], calls: Sequence[Vectors], *, by_identity: bool, seed: int
) -> Retrieval | None:
    """Rank-1 over the first samples; None if none of them can be found.

    Args:
        names: the names of the modalities.
        calls: what the head received. Those of other widths than the first are left out, and so
            are samples whose label is negative: junk, by custom.
        by_identity: whether intervals are drawn over identities.
        seed: of the bootstrap.
    """
    calls = sorted(calls, key=lambda call: call.batch)
    calls = [call for call in calls if call.widths == calls[0].widths]
    if len(names) < 2 or not calls:
        return None
    identity = torch.cat([call.label for call in calls])[:MOST]
    group = _numbers([call.group for call in calls])
    features = [torch.cat(parts)[:MOST] for parts in zip(*(c.features for c in calls), strict=True)]
    usable = torch.stack([identity >= 0, *(part.isfinite().all(1) for part in features)]).all(0)
    features, identity = [part[usable] for part in features], identity[usable]
    group = None if group is None else group[:MOST][usable]
    ranks = first_ranks(features, identity, group)
    known = ranks.isfinite().all(1)
    if not known.any():
        return None
    right = (ranks[known] == 1).double()
    table = torch.cat([right, right[:, :1] - right[:, 1:]], dim=1)
    clusters = identity[known] if by_identity else None
    complete, *rest = bootstrap(table, clusters=clusters, seed=seed)
    count = len(names)
    without = dict(zip(names, rest[:count], strict=True))
    loss = dict(zip(names, rest[count:], strict=True))
    return Retrieval(int(known.sum()), complete, without, loss)


def _numbers(groups: Sequence[tuple[str, ...] | None]) -> Tensor | None:
    """A number for each group, if all are known."""
    known = [group for group in groups if group is not None]
    if len(known) < len(groups):
        return None
    numbers: Mapping[str, int] = {
        value: i for i, value in enumerate(dict.fromkeys(v for group in known for v in group))
    }
    return torch.tensor([numbers[value] for group in known for value in group])
