"""The head run again without a modality, without leaving a trace, and the influence that follows.

``training``, ``auditing`` and ``verification`` all measure through this room.
"""

from .chain_check import ChainCheck, expectation
from .hook_check import of_this_package
from .influence import BASELINES, estimate
from .isolation import isolated, not_recorded
from .linear import influence_of_linear
from .output_check import (
    HeadOutput,
    OutputCheck,
    OutputComparison,
    compare_output,
    head_output,
    larger_head,
)
from .recursion import refuse_recursion
from .rerun import reruns, run_links

__all__ = [
    "BASELINES",
    "ChainCheck",
    "HeadOutput",
    "OutputCheck",
    "OutputComparison",
    "compare_output",
    "estimate",
    "expectation",
    "head_output",
    "influence_of_linear",
    "isolated",
    "larger_head",
    "not_recorded",
    "of_this_package",
    "refuse_recursion",
    "reruns",
    "run_links",
]
