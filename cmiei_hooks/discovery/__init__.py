"""``discover`` finds the heads that ``attach`` can take, and prints them as lines to paste.

It runs the model with the rows of one modality permuted at a time, and follows which columns of
every module's input and output change.
"""

from .api import discover, discover_in_call
from .candidate import Candidate
from .head_calls import modalities_apart
from .head_input import HeadInput, attribute_head_input
from .input_names import Grouping
from .inputs import bare_model
from .layout import listed
from .report import DiscoverReport, RuledOut
from .trace import device_of
from .user_forward import call_in

__all__ = [
    "Candidate",
    "DiscoverReport",
    "Grouping",
    "HeadInput",
    "RuledOut",
    "attribute_head_input",
    "bare_model",
    "call_in",
    "device_of",
    "discover",
    "discover_in_call",
    "listed",
    "modalities_apart",
]
