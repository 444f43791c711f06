"""Peers: what a user would pick in place of the method, as strategies ``make(config, noise)``.

Gradient modulation is in ``gradient_modulation.py``; what only controls for chance, as many
substitutions as another arm, in ``controls.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ..auditing import import_function
from ..errors import ValidationError
from ..functional import rows_of, select_softly
from ..fusion import Captured, Change, Path
from ..settings import Config
from ..training import HeadCall, Noise, Strategy, substituted

__all__ = ["ModalityDropout", "RandomModalities", "RandomModality", "make_peer", "zeroed"]


def make_peer(function: str, options: Mapping[str, Any]) -> Callable[[Config, Noise], Strategy]:
    """What makes the strategy of an arm: ``module:function`` with these options.

    Raises:
        ValidationError: what the function returns is not a strategy.
    """
    make = import_function(function)

    def made(config: Config, noise: Noise) -> Strategy:
        strategy = make(config, noise, **options)
        lacks = [name for name in _OF_A_STRATEGY if not hasattr(strategy, name)]
        if lacks:
            raise ValidationError(
                f"{function} does not return a strategy",
                got=f"{type(strategy).__name__} without {', '.join(lacks)}",
                expected=f"an object with {', '.join(_OF_A_STRATEGY)}",
                remedy="see cmiei_hooks.training.Strategy",
            )
        return cast(Strategy, strategy)

    return made


_OF_A_STRATEGY = ("every_step", "choose", "replace")


class RandomModality:
    """In every step one random modality of every sample becomes mean plus noise."""

    every_step = True

    def __init__(self, config: Config, noise: Noise) -> None:
        self._config, self._noise = config, noise

    def choose(self, call: HeadCall) -> Tensor | None:
        """Each modality is as likely as the others."""
        if not call.acts:
            return None
        device, batch = call.captured.device, call.captured.batch
        generator = self._noise.generator(device, call.step, "selection")
        modalities = len(call.captured.groups)
        return torch.randint(modalities, (batch,), generator=generator, device=device)

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """Mean plus noise, as in ``functional.substitute``."""
        generator = self._noise.generator(captured.device, step)
        return substituted(captured, chosen, self._config, generator)


class RandomModalities(RandomModality):
    """In every step each modality of each sample becomes mean plus noise with a fixed probability.

    Never all of a sample: where all are drawn, one at random stays.

    Args:
        config: the settings in force.
        noise: source of the random numbers.
        rate: the probability.
    """

    def __init__(self, config: Config, noise: Noise, rate: float) -> None:
        super().__init__(config, noise)
        self._rate = rate

    def choose(self, call: HeadCall) -> Tensor | None:
        """Each modality of each sample on its own."""
        if not call.acts:
            return None
        device, shape = call.captured.device, (call.captured.batch, len(call.captured.groups))
        generator = self._noise.generator(device, call.step, "selection")
        draws = torch.empty(shape[0], 2 * shape[1] + 1, device=device)
        probabilities = torch.full(shape, self._rate, device=device)
        return select_softly(probabilities, draws.uniform_(generator=generator))


class ModalityDropout(RandomModalities):
    """In every step each modality of each sample becomes zero with a fixed probability.

    This is modality dropout (ModDrop, Neverova et al. 2016), but never all of a sample.
    """

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """Zeros."""
        return zeroed(captured, chosen)


def zeroed(captured: Captured, chosen: Tensor) -> dict[Path, Tensor]:
    """The tensors of a call in which the chosen modalities are zero; token ids their fill value."""

    def change(modality: int) -> Change:
        zero, rows = captured.dropping(modality, torch.zeros_like), rows_of(chosen, modality)

        def changed(features: Tensor) -> Tensor:
            column = rows.view(-1, *(1,) * (features.dim() - 1))
            return torch.where(column, zero(features), features)

        return changed

    return captured.changed({m: change(m) for m in range(len(captured.groups))})
