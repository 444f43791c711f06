"""What an audit has observed so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from .retrieval import Vectors
from .samples import Samples
from .saved_call import SavedCall

__all__ = ["Collected"]


@dataclass
class Collected:
    """What was observed so far."""

    parts: list[Samples] = field(default_factory=list)
    """The samples of each call of the head."""
    calls: list[SavedCall] = field(default_factory=list)
    """What the head received in each call, if that is saved."""
    vectors: list[Vectors] = field(default_factory=list)
    """What the head received of the first samples with labels, if these are vectors."""
    error: BaseException | None = None
    """What ended it early."""
    drew: bool = False
    """Whether the model drew random numbers."""
    sources: dict[str, str] = field(default_factory=dict)
    """Which column of a batch each argument of ``forward`` was."""
    label_source: str | None = None
    """Which column of a batch the labels were."""
    hidden: str = ""
    """What the model returns instead of the head's logits, if layers compute it from them."""
    not_repeated: str = ""
    """Why the head cannot be run apart from its model."""
    first: int = 0
    """The number of samples that the mean was taken of, if not of all."""
