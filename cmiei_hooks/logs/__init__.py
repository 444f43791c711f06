"""What is logged during training, and where it goes.

A ``LogRecord`` holds the settings or the metrics; a sink is any callable that takes one; the
``Reporter`` hands out the records.
"""

from .console import Console
from .log_line import LogRecord, Sink
from .reporter import Reporter
from .sinks import JSONLines, LogTo, Metrics, Scalars, StandardLogging, sinks_of

__all__ = [
    "Console",
    "JSONLines",
    "LogRecord",
    "LogTo",
    "Metrics",
    "Reporter",
    "Scalars",
    "Sink",
    "StandardLogging",
    "sinks_of",
]
