"""Find out where the modalities of a model meet, and what to pass to ``attach``."""

from .report import Candidate, DiscoverReport, RuledOut
from .run import discover

__all__ = ["Candidate", "DiscoverReport", "RuledOut", "discover"]
