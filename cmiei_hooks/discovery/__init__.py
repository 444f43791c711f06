"""``discover``: run the model with one input exchanged at a time and find the heads that
``attach`` can take.

Its report is lines of Python to paste, best first, and the reasons against every other module.
"""

from .api import discover
from .report import Candidate, DiscoverReport, RuledOut

__all__ = [
    "Candidate",
    "DiscoverReport",
    "RuledOut",
    "discover",
]
