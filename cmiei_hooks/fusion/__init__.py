"""The fusion head: which modules it is, where its input holds each modality, which part of its
output is the logits.

Nothing is run here but what a caller passes in; the rooms above find, read and rewrite calls
through it.
"""

from .arguments import Call, Path, call_of_mapping, describe, with_values
from .head import Head, locate, nested, refuse_both, unwrapped
from .hookability import drop_compiled_code, explain_silence, refuse_replica
from .logits import Output, Outputs, read_logits, read_part, read_tensor
from .modalities import Captured, default_names, parse_modalities
from .module_mode import eval_mode, training_branch, training_mode
from .probabilities import ends_in_probabilities, looks_like_probabilities
from .pytree import Address, Field, call_tensors, mapped, replaced, tensors
from .suggestions import common_module

__all__ = [
    "Address",
    "Call",
    "Captured",
    "Field",
    "Head",
    "Output",
    "Outputs",
    "Path",
    "call_of_mapping",
    "call_tensors",
    "common_module",
    "default_names",
    "describe",
    "drop_compiled_code",
    "ends_in_probabilities",
    "eval_mode",
    "explain_silence",
    "locate",
    "looks_like_probabilities",
    "mapped",
    "nested",
    "parse_modalities",
    "read_logits",
    "read_part",
    "read_tensor",
    "refuse_both",
    "refuse_replica",
    "replaced",
    "tensors",
    "training_branch",
    "training_mode",
    "unwrapped",
    "with_values",
]
