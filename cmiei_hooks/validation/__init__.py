"""Does the method help a given training? Paired runs with controls, their intervals and verdicts.

Every run is recorded on disk, so that nothing is run twice.
"""

from .experiment import Experiment, validate
from .report_sections import in_sections
from .worker import Run

__all__ = [
    "Experiment",
    "Run",
    "in_sections",
    "validate",
]
