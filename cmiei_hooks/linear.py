"""The same influence for a linear head, at about the price of one forward.

With ``P_m = f_m W_m^T``, the part of the logits that comes from modality m, all of which together
cost one forward, ``z = sum_m P_m + b``; and without modality m ``z' = z - d``, where ``d = P_m -
q_m`` and ``q_m`` is the part of what stands in for it. Then ``KL(softmax(z) || softmax(z')) =
E_p[d] - lse(z) + lse(z')`` needs no second softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .functional import batch_mean
from .head import Head
from .partition import Captured
from .quiet import in_autocast, quiet, unseen

__all__ = ["influence_of_linear"]

_CHUNK = 2**16
"""So many logits at once (rows x classes) stay in the cache of a core."""


def influence_of_linear(head: Head, captured: Captured) -> Tensor | None:
    """Influence ``[B, M]`` at a head that is linear in its modalities; None if it is not.

    That is a Linear, or a chain (or Sequential) of BatchNorm1d and a Linear, on one tensor ``[B,
    D]`` of which the modalities are neighbouring columns, in float32 or float64 without autocast,
    measured by ``kl``; and nothing else hangs on it: no subclass, parametrization, hook or replaced
    ``forward``. To be called from inside a pre-hook of the first link.
    """
    parts, widths = _parts(head), head.partition.widths
    features = _features(captured)
    if parts is None or features is None or widths is None or head.measure != "kl":
        return None
    norms, last = parts
    fits = last.weight.dtype == features.dtype and last.in_features == sum(widths)
    if not fits or in_autocast(features.device.type):
        return None
    with torch.no_grad(), unseen():
        stand_in = batch_mean(features) if head.drop == "mean" else None
        if norms:
            features, stand_in = _normalised(head, norms, features, stand_in)
        return _influence(features, stand_in, last, widths)


def _parts(head: Head) -> tuple[list[nn.Module], nn.Linear] | None:
    """Norms and then one Linear, nothing else; None if it is not so."""
    parts: list[nn.Module] = []
    for link in head.links:
        inside = list(link) if type(link) is nn.Sequential else [link]
        if len(inside) > 1 and not _bare(link):
            return None
        parts += inside
    *norms, last = parts
    # A subclass may do anything; sharded and quantised parameters are no plain ones.
    if type(last) is not nn.Linear or any(type(norm) is not nn.BatchNorm1d for norm in norms):
        return None
    whole = all(type(p) is nn.Parameter for part in parts for p in part.parameters())
    plain = whole and all(map(_bare, parts)) and all(output is None for output in head.outputs)
    return (norms, last) if plain else None


_FORWARDS: dict[type[nn.Module], Any] = {
    kind: kind.forward for kind in (nn.Linear, nn.BatchNorm1d, nn.Sequential)
}
"""As torch has them: somebody may replace that of a module, or of the class."""


def _bare(module: nn.Module) -> bool:
    """Whether nothing hangs on it but the hooks of this package."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    own = all(type(hook).__module__.partition(".")[0] == __package__ for hook in hooks)
    kind = type(module)
    return own and "forward" not in module.__dict__ and kind.forward is _FORWARDS.get(kind)


def _features(captured: Captured) -> Tensor | None:
    """The one tensor ``[B, D]`` that is the whole call; None if there is more to it."""
    args, kwargs = captured.call
    (first, *others) = captured.tensors.values()
    tiles = [piece for group in captured.groups for piece in group]
    whole = len(args) + len(kwargs) == 1 and not others and first.dim() == 2
    rows = captured.dim in (-1, 1) and len(tiles) == len(captured.groups)
    single = first.dtype in (torch.float32, torch.float64)
    return first.detach() if whole and rows and single and type(first) is Tensor else None


def _normalised(
    head: Head, norms: Sequence[nn.Module], features: Tensor, stand_in: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The features behind the norms, and one row of what stands in for them there.

    A norm treats every column by itself: what a dropped column becomes does not depend on which
    others are dropped with it.
    """
    dropped = torch.zeros_like(features) if stand_in is None else stand_in.expand_as(features)
    with quiet(head.whole, features.device) as begin:
        for norm in norms:
            features = norm.forward(features)
        begin()
        for norm in norms:
            dropped = norm.forward(dropped)
    return features, dropped[:1]


def _influence(
    features: Tensor, stand_in: Tensor | None, last: nn.Linear, widths: Sequence[int]
) -> Tensor:
    """``[B, M]``, by chunks of classes: no more than a few of them are held at a time.

    Args:
        features: ``[B, D]``, what the Linear receives.
        stand_in: ``[1, D]``, what it would receive without; None: zeros.
        last: with weight ``[C, D]``.
        widths: of the M modalities, D together.
    """

    def columns(of: Tensor) -> Sequence[Tensor]:
        return torch.split(of, list(widths), dim=1)

    inputs = [column.contiguous() for column in columns(features)]  # faster products
    baselines = [None] * len(widths) if stand_in is None else columns(stand_in)
    step = max(_CHUNK // max(len(features), 1), 64)
    totals, left, expected = [], [], []
    largest = torch.zeros_like(features[:, 0])
    for start in range(0, last.out_features, step):
        chunk = slice(start, start + step)
        weights = columns(last.weight[chunk])
        parts = [linear(f, w) for f, w in zip(inputs, weights, strict=True)]
        z = parts[0] + parts[1]
        for part in parts[2:]:
            z += part
        if last.bias is not None:
            z += last.bias[chunk]
        largest = torch.maximum(largest, z.abs().amax(-1))  # infinite and NaN come through
        total = z.logsumexp(-1)
        p = (z - total[:, None]).exp_()
        for part, baseline, w in zip(parts, baselines, weights, strict=True):
            if baseline is not None:
                part.sub_(linear(baseline, w))
        totals.append(total)
        expected.append(torch.stack([torch.linalg.vecdot(p, d) for d in parts]))
        left.append(torch.stack([(z - d).logsumexp(-1) for d in parts]))
    chunks = torch.stack(totals)
    total = chunks.logsumexp(0)
    share = (chunks - total).exp()
    difference = torch.einsum("kb,kmb->mb", share, torch.stack(expected))
    influence = (difference - total + torch.stack(left).logsumexp(0)).clamp_min(0).T
    known = largest.isfinite() & influence.isfinite().all(-1)
    return influence.masked_fill(~known[:, None], math.nan)
