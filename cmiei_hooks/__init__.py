"""C-MIEI (Counterfactual Modality Influence Equalization) as hooks on unmodified PyTorch models."""

from typing import TYPE_CHECKING

from ._lazy import lazy
from ._version import __version__ as __version__
from .errors import CMIEIError, CMIEIWarning

if TYPE_CHECKING:
    from . import functional
    from .auditing import AuditReport, audit
    from .comparing import ComparisonReport, compare
    from .discovery import Candidate, DiscoverReport, RuledOut, discover
    from .logs import Console, JSONLines, LogRecord, Metrics, Scalars, StandardLogging
    from .settings import Config, add_cmiei_config
    from .training import Handle, Measurement, attach, detach
    from .verification import VerifyReport, verify
else:  # for the command line: its help needs none of them, nor torch
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "AuditReport": "auditing",
            "Candidate": "discovery",
            "ComparisonReport": "comparing",
            "Config": "settings",
            "Console": "logs",
            "DiscoverReport": "discovery",
            "Handle": "training",
            "JSONLines": "logs",
            "LogRecord": "logs",
            "Measurement": "training",
            "Metrics": "logs",
            "RuledOut": "discovery",
            "Scalars": "logs",
            "StandardLogging": "logs",
            "VerifyReport": "verification",
            "add_cmiei_config": "settings",
            "attach": "training",
            "audit": "auditing",
            "compare": "comparing",
            "detach": "training",
            "discover": "discovery",
            "functional": "functional",
            "verify": "verification",
        },
    )

__all__ = [
    "AuditReport",
    "CMIEIError",
    "CMIEIWarning",
    "Candidate",
    "ComparisonReport",
    "Config",
    "Console",
    "DiscoverReport",
    "Handle",
    "JSONLines",
    "LogRecord",
    "Measurement",
    "Metrics",
    "RuledOut",
    "Scalars",
    "StandardLogging",
    "VerifyReport",
    "add_cmiei_config",
    "attach",
    "audit",
    "compare",
    "detach",
    "discover",
    "functional",
    "verify",
]
