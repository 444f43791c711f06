"""The fusion head: which modules it is, where its input holds each modality, which part of its
output is the logits.

The rooms above find the head, read its calls and make new ones through this room.
"""

from .apart import one_modality_a_row
from .arguments import call_of_mapping, describe, refuse_misfit, word_for
from .branches import Branch, Combination, Combine
from .captured_call import Captured, Change, Slice
from .function_link import FunctionLink
from .head import Head, locate, unwrapped
from .head_argument import HeadLike, head_names
from .hookability import drop_compiled_code, why_never_called
from .last_call import LastCall
from .logits import Output, Outputs, read_logits, read_part, read_tensor
from .modalities import default_names, parse_modalities
from .module_mode import eval_mode, training_branch, training_mode
from .partition import MissingModalityError, Partition
from .probabilities import ends_in_probabilities, looks_like_probabilities
from .pytree import (
    Call,
    Field,
    Path,
    call_tensors,
    mapped,
    replaced,
    tensors,
    with_values,
)
from .refusals import (
    nested,
    refuse_cuda_graph,
    refuse_lazy,
    refuse_non_module,
    refuse_replica,
)
from .suggestions import common_module, suggested_heads
from .tensor_kinds import refuse_kind, refuse_weights

__all__ = [
    "Branch",
    "Call",
    "Captured",
    "Change",
    "Combination",
    "Combine",
    "Field",
    "FunctionLink",
    "Head",
    "HeadLike",
    "LastCall",
    "MissingModalityError",
    "Output",
    "Outputs",
    "Partition",
    "Path",
    "Slice",
    "call_of_mapping",
    "call_tensors",
    "common_module",
    "default_names",
    "describe",
    "drop_compiled_code",
    "ends_in_probabilities",
    "eval_mode",
    "head_names",
    "locate",
    "looks_like_probabilities",
    "mapped",
    "nested",
    "one_modality_a_row",
    "parse_modalities",
    "read_logits",
    "read_part",
    "read_tensor",
    "refuse_cuda_graph",
    "refuse_kind",
    "refuse_lazy",
    "refuse_misfit",
    "refuse_non_module",
    "refuse_replica",
    "refuse_weights",
    "replaced",
    "suggested_heads",
    "tensors",
    "training_branch",
    "training_mode",
    "unwrapped",
    "why_never_called",
    "with_values",
    "word_for",
]
