"""C-MIEI (Counterfactual Modality Influence Equalization) as hooks on unmodified PyTorch models."""

from . import functional
from .attach import Handle, attach
from .audit import AuditReport, audit
from .config import Config, add_cmiei_config
from .console import Console
from .discovery import Candidate, DiscoverReport, RuledOut, discover
from .errors import CMIEIError, CMIEIWarning
from .log import JSONLines, LogRecord, Scalars, StandardLogging
from .pipeline import Measurement
from .verify import VerifyReport, verify

__version__ = "0.1.0"

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
    "RuledOut",
    "Scalars",
    "StandardLogging",
    "VerifyReport",
    "add_cmiei_config",
    "attach",
    "audit",
    "discover",
    "functional",
    "verify",
]
