"""The options of an audit, typed; the command line and Python fill in the same ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..distributed import active, rank, world_size
from .batches import Columns

__all__ = ["AuditOptions", "Forward"]

Forward = Callable[[nn.Module, Any], Any]
"""``forward(model, batch)`` runs the model on one batch."""


@dataclass(frozen=True)
class AuditOptions:
    """How the model is run, what its batches hold, and what is kept."""

    in_training_branch: bool = False
    """Run the branch ``if self.training`` of the model instead of eval mode."""
    features_head: bool = False
    """Audit the head although the model computes its output from what it returns by more layers."""
    forward: Forward | None = None
    """How the model is called with a batch; None: with the columns of the batch."""
    columns: Columns = field(default_factory=Columns)
    """Which columns of a batch are inputs, labels and groups."""
    amp: bool = False
    """Run under autocast: float16 on a GPU, bfloat16 on a CPU."""
    limit: int | None = None
    """Stop after the batch that reaches this number of samples."""
    seed: int = 0
    """Seed of the permutations, of the intervals, and of loaders that shuffle."""
    null_samples: int = 256
    """The null is measured on this many samples, rounded up to whole batches."""
    weights: str | None = None
    """Which weights of a checkpoint are loaded: a top-level key or a prefix; None: the usual."""
    save_features: str | os.PathLike[str] | None = None
    """Write what the head receives to this file."""
    features: str | os.PathLike[str] | None = None
    """Run the head alone, over what ``save_features`` wrote to this file."""
    distributed: bool = False
    """Divide the batches among the processes of ``torch.distributed``; all of them must call."""
    progress: bool = False
    """Show a progress bar on stderr if that is a terminal."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Entries for ``environment`` in the report that only the caller knows, such as the command."""

    @property
    def mode(self) -> str:
        """The mode of the model, in the words of the report."""
        return "training branch" if self.in_training_branch else "eval mode"

    @property
    def shard(self) -> tuple[int, int]:
        """The index of this process and their number n: each measures every n-th batch."""
        return (rank(), world_size()) if self.distributed and active() else (0, 1)
