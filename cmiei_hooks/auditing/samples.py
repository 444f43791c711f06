"""What an audit records of every sample: influences of all kinds, from re-runs of the head."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..counterfactual import variants_of
from ..functional import counterfactual_influence
from ..fusion import Captured, Change, Head, Path, looks_like_probabilities
from ..measures import least_logits
from .shapley import MOST_MODALITIES

__all__ = [
    "NULL_DRAWS",
    "P_FLOOR",
    "UNKNOWN",
    "Instead",
    "Logits",
    "Samples",
    "influence_of",
    "logits_of",
    "observe",
    "together",
]

NULL_DRAWS = 19
"""Shuffles for the null."""
P_FLOOR = 1 / (1 + NULL_DRAWS)
"""The smallest p that these can show: 0.05."""

_AT_ONCE = 2**20
"""The logits that are compared at once: a few megabytes."""

UNKNOWN = -1
"""The predicted class where logits are NaN or infinite."""


Instead = Mapping[Path, Tensor] | None
"""What replaces the tensors of a call where a modality is dropped; None: zeros."""


@dataclass(frozen=True)
class Logits:
    """What is kept, on the CPU, of the complete logits of N samples, which may be many."""

    mark: Tensor
    """``[N, 2]``: the largest, and the mean of those that are not masked. A re-run is recognised by
    them."""
    probabilities: Tensor
    """bool ``[N]``: whether they are at least 0 and sum to 1."""

    @classmethod
    def of(cls, logits: Tensor) -> Logits:
        """Of the logits ``[N, C]``."""
        largest = logits.amax(-1)
        mean = logits.where(logits != -math.inf, 0).mean(-1)
        usable = logits[largest.isfinite()]
        # One row alone does not count there; here all samples are looked at together.
        found = looks_like_probabilities(usable.repeat(2, 1))
        mark = torch.stack([largest, mean], dim=1).double().cpu()
        return cls(mark, found.cpu().expand(len(logits)).clone())

    @property
    def usable(self) -> Tensor:
        """Bool ``[N]``: whether they are finite; classes may be masked with -inf."""
        return self.mark[:, 0].isfinite()

    def agree(self, others: Logits) -> bool:
        """Whether these may be the same logits, computed again."""
        scale = self.mark.nan_to_num(0, 0, 0).abs().max() if self.mark.numel() else 0
        atol = float(scale) * _TOLERANCE
        return torch.allclose(self.mark, others.mark, rtol=0, atol=atol, equal_nan=True)


_TOLERANCE = 1e-3
"""The largest difference that is taken for rounding, relative to the largest value."""


@dataclass(frozen=True)
class Samples:
    """N samples, on the CPU; without the logits, which could be large.

    A coalition is a number from 0 to 2^M - 1. Its bit m says that modality m is kept; the others
    are dropped.
    """

    influence: Tensor
    """``[N, M]``, with the configured drop; NaN where logits are not finite."""
    divergence: Tensor | None
    """``[N, 2^M]``: how far the prediction of each coalition is from the complete one; None if
    there are too many modalities."""
    predicted: Tensor | None
    """int64 ``[N, 2^M]``, the class that each coalition predicts (without coalitions ``[N, 1+M]``,
    complete and without each modality); UNKNOWN where the logits are not finite. None where there
    are not classes."""
    baselines: dict[str, Tensor]
    """``[N, M]``: the influence when a modality is replaced by ``zero``, by the ``mean`` of all
    samples, or by that of another sample (``permuted``); NaN where there is no other sample of the
    same shape."""
    null: Tensor
    """``[D, M, draws]``, of the first D samples: the influence after the modality's features were
    shuffled over its columns, in the same way for all samples of a draw; NaN for modalities whose
    columns were not shuffled."""
    batch: Tensor
    """int64 ``[N]``: the number of the batch."""
    logits: Logits
    label: Tensor | None = None
    """int64 ``[N]``."""
    group: tuple[str, ...] | None = None
    """The group of each sample."""
    fingerprint: Tensor | None = None
    """int64 ``[N]``, the fingerprint of what the model gets."""
    classes: int | None = None
    """The number of classes of the head; None for a measure without classes."""

    def __len__(self) -> int:
        return len(self.influence)


def observe(
    head: Head,
    captured: Captured,
    *,
    batch: int,
    seed: int,
    with_null: bool = True,
    drop: Instead = None,
) -> Samples:
    """Run the head again with modalities dropped and shuffled, and record what it returns.

    Args:
        head: the head whose call this is.
        captured: the call.
        batch: its number.
        seed: of the permutations.
        with_null: whether to measure the null on these samples.
        drop: what replaces a dropped modality; the result is the only entry of ``baselines``.
    """
    count = len(captured.groups)
    everyone = (1 << count) - 1
    singles = [everyone ^ 1 << m for m in range(count)]
    coalitions = range(everyone + 1) if count <= MOST_MODALITIES else [*singles, everyone]
    with variants_of(head, captured) as one:
        parts = [one.part(m) for m in range(count)]
        dropped = [one.part(m, _change(captured, drop, m)) for m in range(count)]

        def with_only(kept: int) -> Tensor:
            return one.logits([parts[m] if kept >> m & 1 else dropped[m] for m in range(count)])

        logits = {kept: with_only(kept) for kept in coalitions}
        complete, left = logits[everyone], torch.stack([logits[kept] for kept in singles])
        influence = counterfactual_influence(complete, left, head.measure)
        drawn = captured.batch if with_null else 0
        null = influence.new_full((drawn, count, NULL_DRAWS), math.nan)
        at_once = max(1, _AT_ONCE // max(1, complete.numel()))
        draws = [_Shuffled(seed, draw) for draw in range(NULL_DRAWS)]
        shuffled_ones = [m for m in range(count) if with_null and _has_columns(captured, m)]
        for m in shuffled_ones:
            for start in range(0, NULL_DRAWS, at_once):
                few = slice(start, start + at_once)
                shuffled = one.logits_of_each(parts, m, draws[few])
                null[:, m, few] = _far(shuffled, left[m].expand_as(shuffled), head.measure)
    divergence = None
    if count <= MOST_MODALITIES:
        found = [_far(complete[None], logits[kept][None], head.measure) for kept in coalitions]
        divergence = torch.cat(found, dim=1)
    kinds = coalitions if count <= MOST_MODALITIES else [everyone, *singles]
    predicted = _predicted([logits[kept] for kept in kinds], head.measure)
    samples = Samples(
        influence,
        divergence,
        predicted,
        {head.drop: influence},
        null,
        torch.full_like(influence[:, 0], batch, dtype=torch.int64),
        Logits.of(complete),
        classes=None if predicted is None else max(2, complete.shape[-1]),
    )
    return _on_cpu(samples)


def influence_of(
    head: Head, captured: Captured, instead: Sequence[Instead]
) -> tuple[Logits, list[Tensor]]:
    """The complete logits, and for each baseline the influence ``[B, M]``, on the CPU."""
    modalities = range(len(captured.groups))
    with variants_of(head, captured) as one:
        parts = [one.part(m) for m in modalities]
        complete = one.logits(parts)
        found = []
        for new in instead:
            changed = [one.part(m, _change(captured, new, m)) for m in modalities]
            without = [one.logits([*parts[:m], changed[m], *parts[m + 1 :]]) for m in modalities]
            stacked = torch.stack(without)
            found.append(counterfactual_influence(complete, stacked, head.measure).cpu())
    return Logits.of(complete), found


def logits_of(head: Head, captured: Captured) -> Logits:
    """What is kept of the complete logits."""
    with variants_of(head, captured) as one:
        return Logits.of(one.logits([one.part(m) for m in range(len(captured.groups))]))


def _far(logits: Tensor, others: Tensor, measure: str) -> Tensor:
    """How far each of K logits ``[K, B, C]`` moves where others take their place: ``[B, K]``."""
    rows = logits.reshape(-1, logits.shape[-1]), others.reshape(1, -1, others.shape[-1])
    return counterfactual_influence(*rows, measure).view(logits.shape[:2]).T


def _change(captured: Captured, instead: Instead, modality: int) -> Change:
    """Replaces the pieces of a modality, in their order, by those of other tensors."""
    if instead is None:
        return captured.dropping(modality, torch.zeros_like)
    pieces = itertools.cycle(captured.views(instead, modality))  # for any number of runs
    return lambda _: next(pieces)


def _axis(features: Tensor) -> int:
    """The axis of the columns: the channels of a map ``[B, C, H, W]``, else the last axis."""
    return 1 if features.dim() == 4 else -1


def _has_columns(captured: Captured, modality: int) -> bool:
    """Whether there is more than one column to shuffle."""
    views = captured.views(captured.tensors, modality)
    return any(view.dim() > 1 and view.shape[_axis(view)] > 1 for view in views)


@dataclass(frozen=True)
class _Shuffled:
    """Puts columns in another order, which is the same for all samples and batches."""

    seed: int
    draw: int

    def __call__(self, features: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1009 + self.draw)
        if features.dim() < 2:
            return features
        order = torch.randperm(features.shape[_axis(features)], generator=generator)
        return features.index_select(_axis(features), order.to(features.device))


def _predicted(logits: Sequence[Tensor], measure: str) -> Tensor | None:
    if least_logits(measure) > 1:  # a measure of classes
        classes = [z.argmax(-1) for z in logits]
    elif measure == "bernoulli" and logits[0].shape[-1] == 1:
        classes = [(z[:, 0] > 0).long() for z in logits]
    else:
        return None
    known = [_usable(z) for z in logits]
    return torch.stack([c.where(k, UNKNOWN) for c, k in zip(classes, known, strict=True)], dim=1)


def _usable(logits: Tensor) -> Tensor:
    """Whether the logits of a sample are finite; classes may be masked with -inf."""
    masked = logits == -math.inf
    return (logits.isfinite() | masked).all(-1) & ~masked.all(-1)


def _on_cpu(samples: Samples) -> Samples:
    def moved(value: object) -> object:
        return value.cpu() if isinstance(value, Tensor) else value

    fields = {f.name: moved(getattr(samples, f.name)) for f in dataclasses.fields(samples)}
    fields["baselines"] = {name: value.cpu() for name, value in samples.baselines.items()}
    return Samples(**fields)  # type: ignore[arg-type]  # the same types as before


def together(parts: Sequence[Samples]) -> Samples:
    """All samples of one or more calls, by batch; labels and groups if every call has them."""
    parts = sorted(parts, key=lambda part: int(part.batch[0]) if len(part) else -1)
    known = [name for name in parts[0].baselines if all(name in part.baselines for part in parts)]

    def joined(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else torch.cat(values)

    groups = [part.group for part in parts]
    return Samples(
        torch.cat([part.influence for part in parts]),
        joined("divergence"),
        joined("predicted"),
        {name: torch.cat([part.baselines[name] for part in parts]) for name in known},
        torch.cat([part.null for part in parts]),
        torch.cat([part.batch for part in parts]),
        Logits(
            torch.cat([part.logits.mark for part in parts]),
            torch.cat([part.logits.probabilities for part in parts]),
        ),
        joined("label"),
        None if any(g is None for g in groups) else tuple(v for g in groups if g for v in g),
        joined("fingerprint"),
        parts[0].classes,
    )
