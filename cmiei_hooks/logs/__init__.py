"""What is logged during training, and the sinks it goes to.

A sink is any callable that takes a ``LogRecord``.
"""

from .console import Console
from .record import LogRecord, Sink
from .sinks import JSONLines, Reporter, Scalars, StandardLogging

__all__ = [
    "Console",
    "JSONLines",
    "LogRecord",
    "Reporter",
    "Scalars",
    "Sink",
    "StandardLogging",
]
