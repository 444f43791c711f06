"""How ``cmiei run`` observes a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import Config

if TYPE_CHECKING:  # the command line makes these options before torch is imported
    from ..fusion import Outputs

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How a program is observed."""

    config: Config
    """With ``HEAD`` and, without ``modalities``, ``SPLITS``."""
    modalities: Mapping[str, Any] | None = None
    dim: int = -1
    output: Outputs = None
    act: bool = False
    """Whether samples may be substituted. Otherwise training stays as it is, to the bit."""
    epoch_length: int | None = None
    """The number of steps after which an epoch ends; None where nothing is counted in epochs."""
    directory: Path | None = None
    """Where the steps and the report are written."""
    command: str = ""
    """What the report says was run."""

    @property
    def settings(self) -> Config:
        """The settings in force: without ``act`` those that can only observe."""
        config = self.config.override(enabled=True)
        if self.act:
            return config
        # Batch level knows no cap. Counted in steps, the averages need no epochs.
        return config.override(
            p_max=0.0,
            sample_level=True,
            relative=False,
            sync=False,
            warmup_epochs=Config().warmup_epochs,
            warmup_steps=0,
            end_epoch=None,
            end_step=None,
        )
