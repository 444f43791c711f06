"""Does the method help a given training? Paired runs with controls, their intervals and verdicts.

Every run is recorded on disk, so that nothing is run twice.
"""

from .executors import executor_of, visible_gpus
from .experiment import Experiment, validate
from .intervals import ALPHA, NOT_SEEN, Difference, holm, paired, verdict
from .report_sections import in_sections
from .run_queue import Progress

__all__ = [
    "ALPHA",
    "NOT_SEEN",
    "Difference",
    "Experiment",
    "Progress",
    "executor_of",
    "holm",
    "in_sections",
    "paired",
    "validate",
    "verdict",
    "visible_gpus",
]
