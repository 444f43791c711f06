"""Does the method help a given training? Paired runs with controls, their intervals and verdicts.

Every run is recorded on disk, so that nothing is run twice.
"""

from .experiment import Experiment, validate
from .report import VERDICTS, comparisons, judged, titled, to_html
from .worker import Run

__all__ = [
    "VERDICTS",
    "Experiment",
    "Run",
    "comparisons",
    "judged",
    "titled",
    "to_html",
    "validate",
]
