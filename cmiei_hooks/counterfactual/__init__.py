"""The head run again without a modality, without leaving a trace, and the influence that follows.

``training``, ``auditing`` and ``verification`` all measure through this room.
"""

from .batch_axis import batch_axis_error, find_batch_axis, possible_batch_axes
from .branch_calls import BranchCalls
from .branch_hook import BranchHook
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
from .variants import Variants, variants_of
from .workspace import Workspace

__all__ = [
    "BASELINES",
    "BranchCalls",
    "BranchHook",
    "ChainCheck",
    "HeadOutput",
    "OutputCheck",
    "OutputComparison",
    "Variants",
    "Workspace",
    "batch_axis_error",
    "compare_output",
    "estimate",
    "expectation",
    "find_batch_axis",
    "head_output",
    "influence_of_linear",
    "isolated",
    "larger_head",
    "not_recorded",
    "of_this_package",
    "possible_batch_axes",
    "refuse_recursion",
    "reruns",
    "run_links",
    "variants_of",
]
