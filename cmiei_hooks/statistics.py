"""Running figures: added up on the device, read only when somebody asks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .functional import KEPT, dominant

__all__ = ["Statistics"]


class Statistics:
    """Sums over the measured samples since the last reset, of M modalities.

    One vector on the device: samples, substituted samples, influence [M], dominant count [M]; and
    one for the samples that were left out because their logits were not finite, since the start.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._sums: Tensor | None = None
        self._left_out: Tensor | None = None

    def reset(self) -> None:
        """Begin a new average; the count of samples left out goes on."""
        self._sums = None

    def add(self, influence: Tensor, substituted: Tensor) -> None:
        """Add one measurement: influence ``[B, M]``, substituted int64 ``[B]`` (-1: kept)."""
        first = dominant(influence)
        finite = first != KEPT
        modalities = torch.arange(len(self.names), device=influence.device)
        sums = [
            finite.sum()[None],
            (substituted != KEPT).sum()[None],
            influence.masked_fill(~finite[:, None], 0).sum(0, dtype=_float(influence)),
            (first[:, None] == modalities).sum(0),
        ]
        new = torch.cat([part.to(_float(influence)) for part in sums])
        self._sums = new if self._sums is None else self._sums.to(new.device) + new
        count = (~finite).sum()
        self._left_out = count if self._left_out is None else self._left_out.to(new.device) + count

    @property
    def sums(self) -> Tensor:
        """``[2 + 2 M]``; zeros before the first measurement."""
        if self._sums is None:
            return torch.zeros(2 + 2 * len(self.names), dtype=torch.float64)
        return self._sums

    @property
    def left_out(self) -> int:
        """Samples with NaN or infinite logits since the start (waits for the device)."""
        return 0 if self._left_out is None else int(self._left_out)

    def metrics(self, sums: Tensor | None = None) -> dict[str, float]:
        """The averages under the method's names; NaN before the first measurement.

        Args:
            sums: sums to average instead of the own ones, such as those of all ranks.
        """
        samples, substituted, *rest = (self.sums if sums is None else sums).tolist()
        shares = [value / samples if samples else math.nan for value in (substituted, *rest)]
        keys = [
            "C_MIEI_Ratio",
            *(f"CI_{n}" for n in self.names),
            *(f"Hist_{n}" for n in self.names),
        ]
        return dict(zip(keys, shares, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, on the CPU."""
        return {"sums": self.sums.cpu(), "left_out": torch.tensor(self.left_out)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved sums."""
        self._sums, self._left_out = state["sums"].clone(), state["left_out"].clone()


def _float(tensor: Tensor) -> torch.dtype:
    # Apple's mps has no float64; elsewhere an epoch's sums are exact enough in it.
    return torch.float32 if tensor.device.type == "mps" else torch.float64
