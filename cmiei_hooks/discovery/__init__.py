"""``discover`` finds the heads that ``attach`` can take, and prints them as lines to paste.

It runs the model with the rows of one modality permuted at a time, and follows which columns of
every module's input and output change.
"""

from .api import discover
from .head_calls import modalities_apart
from .head_input import HeadInput, attribute_head_input
from .inputs import bare_model
from .layout import listed
from .report import Candidate, DiscoverReport, RuledOut
from .trace import device_of

__all__ = [
    "Candidate",
    "DiscoverReport",
    "HeadInput",
    "RuledOut",
    "attribute_head_input",
    "bare_model",
    "device_of",
    "discover",
    "listed",
    "modalities_apart",
]
