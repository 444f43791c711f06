"""Running averages of the metrics: added up on the device, read only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..functional import FLOOR, KEPT, dominant, finite_sums

__all__ = ["Statistics", "metric_names"]


def metric_names(modalities: Sequence[str]) -> list[str]:
    """The names of the metrics in the order of the log."""
    return ["C_MIEI_Ratio", *(f"{kind}_{name}" for kind in ("CI", "Hist") for name in modalities)]


class Statistics:
    """Averages over the estimation steps since the last reset, of M modalities.

    The metrics of one step are shares and means over its samples with finite logits; a step without
    such samples does not count. The shares ``Hist`` add up to less than 1 where samples have no
    dominant modality, because none has an influence. One vector on the device holds the sums:
    steps, samples, then the 1 + 2 M metrics. Another number counts the samples left out since the
    start.
    """

    def __init__(self, names: Sequence[str], floor: float = FLOOR) -> None:
        self.names, self._floor = tuple(names), floor
        self._sums: Tensor | None = None
        self._left_out: Tensor | None = None

    def reset(self) -> None:
        """Begin a new average; the number of samples left out is kept."""
        self._sums = None

    def add(self, influence: Tensor, substituted: Tensor) -> None:
        """Add one estimate: influence ``[B, M]``, substituted int64 ``[B]`` (-1 for kept)."""
        first = dominant(influence, self._floor)
        finite = influence.isfinite().all(-1)
        samples = finite.sum()
        modalities = torch.arange(len(self.names), device=influence.device)
        totals = [
            (substituted != KEPT).sum()[None],
            finite_sums(influence)[:-1],
            (first[:, None] == modalities).sum(0),
        ]
        dtype = totals[1].dtype
        metrics = torch.cat([total.to(dtype) for total in totals]) / samples.clamp_min(1)
        counts = torch.stack([samples > 0, samples]).to(dtype)
        new = torch.cat([counts, metrics])
        self._sums = new if self._sums is None else self._sums.to(new.device) + new
        count = (~finite).sum()
        self._left_out = count if self._left_out is None else self._left_out.to(new.device) + count

    @property
    def sums(self) -> Tensor:
        """``[3 + 2 M]``; zeros before the first estimate."""
        if self._sums is None:
            return torch.zeros(3 + 2 * len(self.names), dtype=torch.float64)
        return self._sums

    @property
    def left_out(self) -> int:
        """Samples with NaN or infinite logits since the start; waits for the device."""
        return 0 if self._left_out is None else int(self._left_out)

    def metrics(self, over_ranks: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """The averages under the method's names; NaN before the first estimate.

        Args:
            over_ranks: sums a tensor over all ranks; then their averages are weighted by samples.
        """
        steps, samples, means = self.sums[0], self.sums[1], self.sums[2:] / self.sums[0]
        if over_ranks is not None:
            weighted = torch.where(steps > 0, means * samples, 0)
            total = over_ranks(torch.cat([samples[None], weighted]))
            means = total[1:] / total[0]
        return dict(zip(metric_names(self.names), means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, on the CPU."""
        return {"sums": self.sums.cpu().clone(), "left_out": torch.tensor(self.left_out)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved sums."""
        self._sums, self._left_out = state["sums"].clone(), state["left_out"].clone()
