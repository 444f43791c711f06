"""The head run again without a modality, without leaving a trace, and the influence that follows.

``training``, ``auditing`` and ``verification`` all measure through this room.
"""

from .chain_check import ChainCheck
from .isolation import quiet, unseen
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
from .rerun import BASELINES, Change, expectation, measure, reruns, run_links

__all__ = [
    "BASELINES",
    "ChainCheck",
    "Change",
    "HeadOutput",
    "OutputCheck",
    "OutputComparison",
    "compare_output",
    "expectation",
    "head_output",
    "influence_of_linear",
    "larger_head",
    "measure",
    "quiet",
    "refuse_recursion",
    "reruns",
    "run_links",
    "unseen",
]
