"""``compare``: what differs between audits of the same samples, and how sure that is.

Two checkpoints are compared sample by sample, two groups of runs pair by pair. Saved audits are
enough: no model runs here, unless one is passed.
"""

from .api import compare
from .report import ComparisonReport
from .results import Comparison, Line

__all__ = [
    "Comparison",
    "ComparisonReport",
    "Line",
    "compare",
]
