"""The same influence for heads that begin with a Linear, at about the price of one forward.

``P_m = f_m W_m^T`` is what modality m adds to the output of the Linear; all of them together cost
one forward. The output is ``z = sum_m P_m + b``. Without modality m it is the sum of the other
terms, ``b`` and what the baseline adds. Nothing is subtracted from ``z``: where one modality is
much larger than the others, that would leave little but rounding. Layers that follow are run on
these variants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .._torch import autocast_dtype, without_dispatch_modes
from ..fusion import Captured, Head
from ..mean_plus_noise import batch_mean
from ..measures import MASKED
from .autocast_rounding import Operand, by_hand, can_be_done_by_hand
from .isolation import isolated
from .linear_layers import OF_ROWS, features_of, layers_of
from .workspace import Workspace

__all__ = ["influence_of_linear"]

_CHUNK = 2**20
"""The numbers that are held at once: a few megabytes, for any number of classes."""

_SMALL = 2**24
"""Products of at most so many multiplications are faster in one batched call than one by one."""


def influence_of_linear(
    head: Head, captured: Captured, workspace: Workspace | None = None
) -> Tensor | None:
    """Influence ``[B, M]`` of a Linear or an MLP; None for any other head.

    The head is a chain or Sequential of any number of BatchNorm1d, a Linear and, in an MLP, further
    Linears with activations, norms and dropout of torch between them. It receives one tensor
    ``[B, D]`` in which the modalities are neighbouring columns, in float32 or float64, and
    ``MEASURE`` is ``kl``. It has no subclass, parametrization, hook of the user's or replaced
    ``forward``. Under autocast it is a single Linear on the CPU, and autocast rounds to bfloat16.
    For use inside a pre-hook of the first link.

    Args:
        head: where the influence is measured.
        captured: one call of it.
        workspace: memory from earlier calls.
    """
    workspace = workspace or Workspace()
    rounding = autocast_dtype(captured.device.type)
    layers, features = layers_of(head), features_of(captured, rounding)
    if layers is None or features is None or head.partition.widths is None or head.measure != "kl":
        return None
    widths, first, others = captured.widths, layers.linears[0], layers.linears[1:]
    if not layers.fit(features.dtype if rounding is None else torch.float32, sum(widths)):
        return None
    # Of layers behind the first Linear, autocast decides one by one.
    if rounding is not None and (others or not can_be_done_by_hand(rounding, features)):
        return None
    with torch.no_grad(), without_dispatch_modes():  # nothing is saved for a backward pass
        baseline = None
        if head.drop == "mean":
            baseline = torch.cat([batch_mean(f) for f in _columns(features, widths)], 1)
        if layers.norms:
            features, baseline = _normalised(head, layers.norms, features, baseline)
        with by_hand(rounding) as operand:
            if others:
                hidden = _hidden(features, baseline, first, widths)
                logits = _products(_through(head, layers.between, hidden), others[0], workspace)
            else:
                baseline = None if baseline is None else operand(baseline)
                features = operand(features)
                logits = _decomposed(features, baseline, first, widths, workspace, operand)
            return _influence(logits, len(layers.linears[-1].weight), len(widths), features)


def _normalised(
    head: Head, norms: Sequence[nn.Module], features: Tensor, baseline: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The features behind the norms, and one row of the baseline there.

    A norm treats every column by itself: what a dropped column becomes does not depend on which
    others are dropped with it.
    """
    dropped = torch.zeros_like(features) if baseline is None else baseline.expand_as(features)
    with isolated(head.whole, features.device) as begin:
        for norm in norms:
            features = norm.forward(features)
        begin()
        for norm in norms:
            dropped = norm.forward(dropped)
    return features, dropped[:1]


_Variants = Callable[[slice], tuple[Tensor, Tensor]]
"""Outputs of a Linear, complete and without each modality: ``[1 + M, C', B]`` for C' of its C; and
memory of the same size that may be written over. The next call writes over both.

Samples are on the last axis: the products are faster that way, and the softmax is as fast.
"""


def _columns(of: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    return of.split_with_sizes(list(widths), 1)


def _decomposed(
    features: Tensor,
    baseline: Tensor | None,
    linear: nn.Linear,
    widths: Sequence[int],
    workspace: Workspace,
    operand: Operand,
) -> _Variants:
    """The variants of a single Linear; ``baseline`` is one row ``[1, D]``, None for zeros."""
    columns = [f.T for f in _columns(features, widths)]

    def variants(chosen: slice) -> tuple[Tensor, Tensor]:
        weight = operand(linear.weight[chosen])
        weights = _columns(weight, widths)
        shape = (2, 1 + len(widths), len(weight), features.shape[0])
        memory, z = workspace.empty(shape, features).unbind()
        terms = memory[: len(widths)]
        if len(set(widths)) == 1 and weight.numel() * len(features) <= _SMALL * len(widths):
            per_modality = (len(widths), widths[0])
            of_classes = weight.view(len(weight), *per_modality).transpose(0, 1)
            of_samples = features.view(len(features), *per_modality).permute(1, 2, 0)
            torch.bmm(of_classes, of_samples, out=terms)
        else:
            for out, f, w in zip(terms, columns, weights, strict=True):
                torch.mm(w, f, out=out)
        bias = linear.bias
        # -inf masks a class
        last = None if bias is None else operand(bias[chosen, None]).clamp_min(MASKED)
        instead: list[Tensor] = []
        if baseline is not None:
            rows = _columns(baseline, widths)
            instead = [w @ f.T for f, w in zip(rows, weights, strict=True)]
        _sums_without_each(terms.unbind(), instead, last, z.unbind())
        return z, memory

    return variants


def _sums_without_each(
    terms: Sequence[Tensor], instead: Sequence[Tensor], last: Tensor | None, out: Sequence[Tensor]
) -> None:
    """The sum of M terms and a last one, then for each m the same without term m: ``1 + M`` sums.

    All are added up in the same order, so that a term of zeros changes nothing, not even a bit, and
    neither does a term that equals what is added instead of it. The terms are written over.

    Args:
        terms: M tensors of one shape.
        instead: what is added where a term is left out; empty for nothing.
        last: added to every sum.
        out: 1 + M tensors of the shape of the terms.
    """
    whole, *without, without_end = out
    *first, end = terms
    # In the sums the last one is added to the last term, not by itself: that is a pass less.
    ends = [one for one in (*instead[-1:], last) if one is not None]
    end_instead = sum(ends[1:], ends[0]) if ends else end.new_zeros(())
    if last is not None:
        end += last
    before: list[Tensor] = []  # the sum of the terms in front of m
    for m, result in enumerate(without):
        one, *others = *before, *instead[m : m + 1], *first[m + 1 :], end
        if others:
            torch.add(one, others[0], out=result)
        else:
            result.copy_(one)
        for other in others[1:]:
            result.add_(other)
        before = [before[0].add_(first[m]) if before else first[0]]
    torch.add(before[0], end_instead, out=without_end)
    torch.add(before[0], end, out=whole)


def _hidden(
    features: Tensor, baseline: Tensor | None, linear: nn.Linear, widths: Sequence[int]
) -> Tensor:
    """The same as rows, ``[1 + M, B, H]``.

    The contributions of the other modalities are added up; none is subtracted. A norm that follows
    would enlarge the rounding, and an activation may turn an infinite number into a finite one.
    """
    weights = _columns(linear.weight, widths)
    terms = [f @ w.T for f, w in zip(_columns(features, widths), weights, strict=True)]
    nothing = torch.zeros_like(terms[0][:1])
    instead = [nothing] * len(widths)
    if baseline is not None:
        rows = _columns(baseline, widths)
        instead = [f @ w.T for f, w in zip(rows, weights, strict=True)]
    bias = nothing if linear.bias is None else linear.bias
    left = [[*terms[:m], instead[m], *terms[m + 1 :]] for m in range(len(widths))]
    return torch.stack([sum(chosen[1:], chosen[0]) + bias for chosen in (terms, *left)])


def _through(head: Head, layers: Sequence[nn.Module], hidden: Tensor) -> Tensor:
    """The variants ``[1 + M, B, H]`` behind these layers, under the real dropout masks."""
    if all(map(_independent, layers)):
        rows = _run(layers, hidden.flatten(0, 1))
        return rows.view(*hidden.shape[:2], rows.shape[1])
    results = []
    with isolated(head.whole, hidden.device) as begin:
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
    return isinstance(layer, OF_ROWS) or not layer.training


def _products(hidden: Tensor, linear: nn.Linear, workspace: Workspace) -> _Variants:
    def variants(chosen: slice) -> tuple[Tensor, Tensor]:
        weight = linear.weight[chosen]
        shape = (2, len(hidden), len(weight), hidden.shape[1])
        memory, z = workspace.empty(shape, hidden).unbind()
        for out, h in zip(z, hidden, strict=True):
            torch.mm(weight, h.T, out=out)
        if linear.bias is not None:
            z += linear.bias[chosen, None].clamp_min(MASKED)
        return z, memory

    return variants


def _influence(variants: _Variants, classes: int, modalities: int, like: Tensor) -> Tensor:
    """``[B, M]``, chunk by chunk of the classes; of the type of a tensor with B rows."""
    samples = like.shape[0]
    step = max(_CHUNK // max(2 * (1 + modalities) * samples, 1), 64)
    starts = range(0, classes, step)
    # Allocated first, so that the chunks can use the same memory one after the other.
    largest = like.new_empty(2, len(starts), 1 + modalities, samples)
    divergences = like.new_empty(len(starts), modalities, samples)
    for i, start in enumerate(starts):
        z, memory = variants(slice(start, start + step))
        logs = torch.log_softmax(z, 1, out=memory)
        if len(starts) > 1:
            torch.amax(z, 1, out=largest[0, i])
            torch.amax(logs, 1, out=largest[1, i])
        p = torch.exp(logs[0], out=z[0])
        torch.sub(logs[0], logs[1:], out=logs[1:])
        torch.sum(logs[1:].mul_(p), 1, out=divergences[i])
    influence = divergences[0]
    if len(starts) > 1:
        # The share of each chunk, and the divergence between the chunks besides that within them.
        logs = (largest[0] - largest[1]).log_softmax(0)
        between = logs[:, :1] - logs[:, 1:]
        influence = (logs[:, :1].exp() * (divergences + between)).sum(0)
    influence = influence.clamp_min(0)
    # The largest times 0 is NaN if anything in the row of a sample is NaN or infinite, and else 0.
    return (influence + influence.amax(0).mul_(0)).T
