"""C-MIEI (Counterfactual Modality Influence Equalization) as hooks on unmodified PyTorch models."""

from . import functional
from ._version import __version__ as __version__
from .auditing import AuditReport, audit
from .discovery import Candidate, DiscoverReport, RuledOut, discover
from .errors import CMIEIError, CMIEIWarning
from .logs import Console, JSONLines, LogRecord, Metrics, Scalars, StandardLogging
from .settings import Config, add_cmiei_config
from .training import Handle, Measurement, attach, detach
from .verification import VerifyReport, verify

__all__ = [
    "AuditReport",
    "CMIEIError",
    "CMIEIWarning",
    "Candidate",
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
    "detach",
    "discover",
    "functional",
    "verify",
]
