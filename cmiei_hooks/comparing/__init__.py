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
    from .runs import audit_of, is_saved_audit, is_without_runs, refuse_sizes
else:  # for the options of the command line, which need no torch
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Comparison": "results",
            "ComparisonReport": "report",
            "Line": "results",
            "audit_of": "runs",
            "compare": "api",
            "is_saved_audit": "runs",
            "is_without_runs": "runs",
            "refuse_sizes": "runs",
        },
    )

__all__ = [
    "Comparison",
    "ComparisonReport",
    "Line",
    "audit_of",
    "compare",
    "is_saved_audit",
    "is_without_runs",
    "refuse_sizes",
]
