"""``compare``: what differs between audits of the same samples, and how sure that is.

Two checkpoints are compared sample by sample, two groups of runs pair by pair. Saved audits are
enough: no model runs here, unless one is passed.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .api import compare
    from .report import ComparisonReport
    from .results import Comparison, Line
    from .runs import is_saved_audit, refuse_sizes
else:  # for the options of the command line, which need no torch
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Comparison": "results",
            "ComparisonReport": "report",
            "Line": "results",
            "compare": "api",
            "is_saved_audit": "runs",
            "refuse_sizes": "runs",
        },
    )

__all__ = [
    "Comparison",
    "ComparisonReport",
    "Line",
    "compare",
    "is_saved_audit",
    "refuse_sizes",
]
