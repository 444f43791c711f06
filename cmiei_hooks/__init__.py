"""C-MIEI (Counterfactual Modality Influence Equalization) as hooks on an unmodified PyTorch model."""

from . import functional
from .attach import Handle, attach
from .config import Config, add_cmiei_config
from .console import Console
from .errors import CMIEIError, CMIEIWarning
from .hook import Measurement
from .log import JSONLines, LogRecord, Scalars, StandardLogging

__version__ = "0.1.0"

__all__ = [
    "CMIEIError",
    "CMIEIWarning",
    "Config",
    "Console",
    "Handle",
    "JSONLines",
    "LogRecord",
    "Measurement",
    "Scalars",
    "StandardLogging",
    "add_cmiei_config",
    "attach",
    "functional",
]
