"""The same influence for heads that begin with a Linear, at about the price of one forward.

With ``P_m = f_m W_m^T``, the part that modality m has in what the Linear returns, all of which
together cost one forward, ``z = sum_m P_m + b``, and without modality m it is ``z - P_m + q_m``,
where ``q_m`` is the part of what stands in for it. Layers that follow are run on these variants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..functional import MASKED, batch_mean, least_logits
from ..fusion import Captured, Head
from .isolation import in_autocast, quiet, unseen

__all__ = ["influence_of_linear"]

_CHUNK = 2**20
"""So many numbers are held at once: a few megabytes, however many classes there are."""


def influence_of_linear(head: Head, captured: Captured) -> Tensor | None:
    """Influence ``[B, M]`` at a head that begins and ends with a Linear; None if it does not.

    That is a chain or Sequential of any number of BatchNorm1d, a Linear and, in an MLP, further
    Linears with activations, norms and dropout of torch between them; on one tensor ``[B, D]`` of
    which the modalities are neighbouring columns, in float32 or float64 without autocast, measured
    by ``kl``; and nothing else hangs on it: no subclass, parametrization, hook or replaced
    ``forward``. To be called from inside a pre-hook of the first link.
    """
    layers, widths = _layers(head), head.partition.widths
    features = _features(captured)
    if layers is None or features is None or widths is None or head.measure != "kl":
        return None
    if not layers.fit(features.dtype, sum(widths)) or in_autocast(features.device.type):
        return None
    with torch.no_grad(), unseen():
        stand_in = None
        if head.drop == "mean":
            stand_in = torch.cat([batch_mean(f) for f in _columns(features, widths)], 1)
        if layers.norms:
            features, stand_in = _normalised(head, layers.norms, features, stand_in)
        first, *others = layers.linears
        if not others:
            logits = _decomposed(features, stand_in, first, widths)
        else:
            hidden = _hidden(features, stand_in, first, widths)
            logits = _products(_through(head, layers.between, hidden), others[0])
        return _influence(logits, len(layers.linears[-1].weight), len(widths), features)


@dataclass(frozen=True)
class _Layers:
    """What such a head consists of, in order."""

    norms: Sequence[nn.Module]
    linears: Sequence[nn.Linear]
    """The one, or the first and the last of several."""
    between: Sequence[nn.Module]
    """Everything between these two."""

    def fit(self, dtype: torch.dtype, width: int) -> bool:
        """Whether each takes what the one before returns, and two or more logits come out.

        By their weights: somebody may have replaced those.
        """
        for layer in (*self.norms, self.linears[0], *self.between, *self.linears[1:]):
            if isinstance(layer, nn.Linear):
                fits = layer.weight.dtype == dtype and layer.weight.shape[1] == width
            elif isinstance(layer, nn.BatchNorm1d):
                fits = layer.num_features == width
            else:
                fits = not isinstance(layer, nn.LayerNorm) or layer.normalized_shape == (width,)
            if not fits:
                return False
            width = len(layer.weight) if isinstance(layer, nn.Linear) else width
        return width >= least_logits("kl")


def _layers(head: Head) -> _Layers | None:
    parts = [part for link in head.links for part in _parts(link)]
    # A subclass may do anything; sharded and quantised parameters are no plain ones.
    whole = all(type(p) is nn.Parameter for part in parts for p in part.parameters())
    taken_as_it_is = all(output is None for output in head.outputs)
    everywhere = nn.modules.module  # global hooks see the modules inside a Sequential
    hooked = everywhere._global_forward_pre_hooks or everywhere._global_forward_hooks
    if hooked or not (whole and taken_as_it_is and all(map(_bare, parts))):
        return None
    linears = [i for i, part in enumerate(parts) if type(part) is nn.Linear]
    if not linears or linears[-1] != len(parts) - 1:
        return None
    norms, between = parts[: linears[0]], parts[linears[0] + 1 : -1]
    if any(type(norm) is not nn.BatchNorm1d for norm in norms):
        return None
    ends: list[Any] = [parts[i] for i in sorted({linears[0], linears[-1]})]
    return _Layers(norms, ends, between)


def _parts(module: nn.Module) -> list[nn.Module]:
    """The modules in a Sequential, in those inside it too; of another one, or if something hangs on
    the Sequential, the module itself.
    """
    if type(module) is nn.Sequential and _bare(module):
        return [part for inner in module for part in _parts(inner)]
    return [module]


_OF_ROWS: tuple[Any, ...] = (
    nn.Linear, nn.LayerNorm, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh,
    nn.Sigmoid, nn.Softplus,
)  # fmt: skip
"""Each row of what they return depends on that row alone; of the others below in eval mode."""

_FORWARDS: dict[type[nn.Module], Any] = {
    kind: kind.forward for kind in (*_OF_ROWS, nn.BatchNorm1d, nn.Dropout, nn.Sequential)
}
"""As torch has them: somebody may replace that of a module, or of the class."""


def _bare(module: nn.Module) -> bool:
    """Whether it is a known one and nothing hangs on it but the hooks of this package."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    own = all(type(hook).__module__.partition(".")[0] == "cmiei_hooks" for hook in hooks)
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


_Variants = Callable[[slice], Tensor]
"""Outputs of a Linear, complete and without each modality: ``[1 + M, C', B]`` for C' of its C.

Samples come last: so the products are faster, and the softmax is no slower.
"""


def _columns(of: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    return torch.split(of, list(widths), dim=1)


def _decomposed(
    features: Tensor, stand_in: Tensor | None, linear: nn.Linear, widths: Sequence[int]
) -> _Variants:
    """From its parts; ``stand_in`` is one row ``[1, D]``, None for zeros."""

    def variants(chosen: slice) -> Tensor:
        weights = _columns(linear.weight[chosen], widths)
        z = features.new_empty(1 + len(widths), len(weights[0]), len(features))
        for out, f, w in zip(z[1:], _columns(features, widths), weights, strict=True):
            torch.mm(w, f.T, out=out)
        torch.sum(z[1:], 0, out=z[0])
        if linear.bias is not None:
            z[0] += linear.bias[chosen, None].clamp_min(MASKED)  # -inf masks a class
        torch.sub(z[0], z[1:], out=z[1:])
        if stand_in is not None:
            for out, f, w in zip(z[1:], _columns(stand_in, widths), weights, strict=True):
                out.add_(w @ f.T)
        return z

    return variants


def _hidden(
    features: Tensor, stand_in: Tensor | None, linear: nn.Linear, widths: Sequence[int]
) -> Tensor:
    """The same as rows, ``[1 + M, B, H]``.

    The other parts are added up, not one subtracted: a norm that follows would enlarge what is
    cancelled, and an activation may make a finite number of an infinite one.
    """
    weights = _columns(linear.weight, widths)
    parts = [f @ w.T for f, w in zip(_columns(features, widths), weights, strict=True)]
    nothing = torch.zeros_like(parts[0][:1])
    instead = [nothing] * len(widths)
    if stand_in is not None:
        rows = _columns(stand_in, widths)
        instead = [f @ w.T for f, w in zip(rows, weights, strict=True)]
    bias = nothing if linear.bias is None else linear.bias
    left = [[*parts[:m], instead[m], *parts[m + 1 :]] for m in range(len(widths))]
    return torch.stack([sum(chosen[1:], chosen[0]) + bias for chosen in (parts, *left)])


def _through(head: Head, layers: Sequence[nn.Module], hidden: Tensor) -> Tensor:
    """The variants ``[1 + M, B, H]`` behind these layers, under the masks of the real forward."""
    if all(map(_independent, layers)):
        rows = _run(layers, hidden.flatten(0, 1))
        return rows.view(*hidden.shape[:2], rows.shape[1])
    results = []
    with quiet(head.whole, hidden.device) as begin:
        for variant in hidden:
            begin()
            results.append(_run(layers, variant))
    return torch.stack(results)


def _run(layers: Sequence[nn.Module], rows: Tensor) -> Tensor:
    for layer in layers:
        rows = layer.forward(rows)
    return rows


def _independent(layer: nn.Module) -> bool:
    if isinstance(layer, nn.BatchNorm1d):
        return not layer.training and layer.running_mean is not None
    return isinstance(layer, _OF_ROWS) or not layer.training


def _products(hidden: Tensor, linear: nn.Linear) -> _Variants:
    def variants(chosen: slice) -> Tensor:
        weight = linear.weight[chosen]
        z = hidden.new_empty(len(hidden), len(weight), hidden.shape[1])
        for out, h in zip(z, hidden, strict=True):
            torch.mm(weight, h.T, out=out)
        if linear.bias is not None:
            z += linear.bias[chosen, None].clamp_min(MASKED)
        return z

    return variants


def _influence(variants: _Variants, classes: int, modalities: int, like: Tensor) -> Tensor:
    """``[B, M]``, chunk by chunk of the classes; of the type of a tensor with B rows."""
    samples = len(like)
    step = max(_CHUNK // max(2 * (1 + modalities) * samples, 1), 64)
    starts = range(0, classes, step)
    # Made beforehand: what is kept must not lie between the pieces of memory that are used again.
    largest = like.new_empty(2, len(starts), 1 + modalities, samples)
    divergences = like.new_empty(len(starts), modalities, samples)
    for i, start in enumerate(starts):
        z = variants(slice(start, start + step))
        logs = z.log_softmax(1)
        if len(starts) > 1:
            torch.amax(z, 1, out=largest[0, i])
            torch.amax(logs, 1, out=largest[1, i])
        # In place of what is no longer needed: fresh memory is dear.
        p = torch.exp(logs[0], out=z[0])
        torch.sub(logs[0], logs[1:], out=logs[1:])
        torch.sum(logs[1:].mul_(p), 1, out=divergences[i])
    influence = divergences[0]
    if len(starts) > 1:
        # The share of each chunk, and the divergence between the chunks besides that within them.
        logs = (largest[0] - largest[1]).log_softmax(0)
        between = logs[:, :1] - logs[:, 1:]
        influence = (logs[:, :1].exp() * (divergences + between)).sum(0)
    influence = influence.clamp_min(0).T
    return influence.masked_fill(~influence.isfinite().all(-1, keepdim=True), math.nan)
