"""Running averages of the metrics: kept on the device, read only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import any_of, dominant
from ..measures import FLOOR

__all__ = ["Statistics", "Totals", "metric_names"]

_MOST_STEPS = 50
_MOST_NUMBERS = 2**20
"""Estimates are added up when this many steps, or this many numbers, have been kept."""


def metric_names(modalities: Sequence[str]) -> list[str]:
    """The names of the metrics in the order of the log."""
    return ["C_MIEI_Ratio", *(f"{kind}_{name}" for kind in ("CI", "Hist") for name in modalities)]


@dataclass(frozen=True)
class Totals:
    """Counts since the beginning of the training."""

    left_out: int
    """Samples with NaN or infinite logits."""
    estimates: int
    samples: int
    """Samples with finite logits, in all estimates."""
    substituted: int
    acting: int
    """Estimates after the warm-up and before the end."""
    largest: float
    """The largest influence in an acting estimate."""


class Statistics:
    """Averages over the estimation steps since the last reset, of M modalities.

    The metrics of one step are shares and means over its samples with finite logits; a step without
    such samples does not count. The shares ``Hist`` add up to less than 1 where samples have no
    dominant modality, because none has an influence.

    Estimates are kept as they are and added up every fifty steps, or when somebody asks: adding up
    takes many small operations. One vector on the device holds the sums since the reset (steps,
    samples, then the 1 + 2 M metrics), another one the totals since the beginning.
    """

    def __init__(self, names: Sequence[str], floor: float = FLOOR) -> None:
        self.names, self._floor = tuple(names), floor
        self._kept: list[tuple[Tensor, Tensor, bool]] = []
        self._numbers = 0
        self._sums: Tensor | None = None
        self._totals: Tensor | None = None
        self._emptied: Tensor | None = None

    def reset(self) -> None:
        """Begin a new average; the totals go on."""
        self._add_up()
        self._sums = None

    def add(self, influence: Tensor, substituted: Tensor, acts: bool = False) -> None:
        """Add one estimate: influence ``[B, M]``, and the selection that was substituted."""
        self._kept.append((influence, substituted, acts))
        self._numbers += influence.numel()
        if len(self._kept) >= _MOST_STEPS or self._numbers > _MOST_NUMBERS:
            self._add_up()

    def _add_up(self) -> None:
        kept, self._kept, self._numbers = self._kept, [], 0
        alike: dict[object, list[tuple[Tensor, Tensor]]] = {}
        for influence, substituted, acts in kept:
            key = (influence.shape, influence.dtype, influence.device, substituted.dtype, acts)
            alike.setdefault(key, []).append((influence, substituted))
        for (*_, acts), steps in alike.items():  # type: ignore[misc]  # the key above
            influences, substitutions = zip(*steps, strict=True)
            self._add_steps(torch.stack(influences), torch.stack(substitutions), acts)

    def _add_steps(self, influence: Tensor, substituted: Tensor, acts: bool) -> None:
        """Add ``n`` steps of one size: ``[n, B, M]``, and ``[n, B]`` or ``[n, B, M]``."""
        steps, modalities = len(influence), influence.shape[-1]
        # float64, because a run adds up many steps; Apple's mps has none.
        dtype = torch.float32 if influence.device.type == "mps" else torch.float64
        finite = influence.isfinite().all(-1)
        known = influence.masked_fill(~finite[..., None], 0)
        first = dominant(influence.flatten(0, 1), self._floor).view(finite.shape)
        samples = finite.sum(1)
        chosen = any_of(substituted).sum(1)
        metrics = (
            torch.cat(
                [
                    chosen[:, None].to(dtype),
                    known.sum(1, dtype=dtype),
                    (first[..., None] == torch.arange(modalities, device=first.device)).sum(1),
                ],
                dim=1,
            )
            / samples.clamp_min(1)[:, None]
        )
        counts = torch.stack([samples > 0, samples], dim=1).to(dtype)
        sums = torch.cat([counts, metrics], dim=1).sum(0)
        self._sums = sums if self._sums is None else self._sums.to(sums) + sums
        # In a batch of no samples there is no largest influence.
        largest = known.amax() if acts and known.numel() else known.new_zeros(())
        constants = torch.tensor([steps, steps * acts], dtype=dtype).to(sums.device)
        new = torch.stack(
            [
                (~finite).sum().to(dtype),
                constants[0],
                samples.sum().to(dtype),
                chosen.sum().to(dtype),
                constants[1],
                largest.to(dtype),
            ]
        )
        if substituted.dtype == torch.bool:
            emptied = substituted.all(-1).sum()
            before = self._emptied
            self._emptied = emptied if before is None else before.to(emptied) + emptied
        if self._totals is not None:
            before = self._totals.to(new)
            new = torch.cat([before[:-1] + new[:-1], before[-1:].maximum(new[-1:])])
        self._totals = new

    @property
    def any(self) -> bool:
        """Whether there was an estimate since the last reset; does not wait for the device."""
        return bool(self._kept) or self._sums is not None

    @property
    def sums(self) -> Tensor:
        """``[3 + 2 M]``; zeros before the first estimate."""
        self._add_up()
        if self._sums is None:
            return torch.zeros(3 + 2 * len(self.names), dtype=torch.float64)
        return self._sums

    @property
    def totals(self) -> Totals:
        """The counts since the beginning; waits for the device."""
        self._add_up()
        values = [0.0] * 6 if self._totals is None else self._totals.tolist()
        left_out, estimates, samples, substituted, acting = map(int, values[:-1])
        return Totals(left_out, estimates, samples, substituted, acting, values[-1])

    @property
    def emptied(self) -> int:
        """Samples all of whose modalities were substituted, not in the state; waits for the device.

        Only a strategy of the user's does that.
        """
        self._add_up()
        return 0 if self._emptied is None else int(self._emptied)

    def metrics(self, over_ranks: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """The averages under the method's names; NaN before the first estimate.

        Args:
            over_ranks: sums a tensor over all ranks; then their averages are weighted by samples.
        """
        sums = self.sums
        steps, samples, means = sums[0], sums[1], sums[2:] / sums[0]
        if over_ranks is not None:
            weighted = torch.where(steps > 0, means * samples, 0)
            total = over_ranks(torch.cat([samples[None], weighted]))
            means = total[1:] / total[0]
        return dict(zip(metric_names(self.names), means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums and the totals, on the CPU."""
        sums = self.sums.cpu().clone()
        totals = torch.zeros(6, dtype=torch.float64) if self._totals is None else self._totals
        return {"sums": sums, "totals": totals.cpu().clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved sums."""
        self._kept, self._numbers = [], 0
        self._sums, self._totals = state["sums"].clone(), state["totals"].clone()
