"""What is logged during training, and where it goes.

A ``LogRecord`` holds the settings or the metrics; a sink is any callable that takes one; the
``Reporter`` hands out the records.
"""

from .console import Console
from .log_line import LogRecord, Sink
from .reporter import Reporter
from .sinks import JSONLines, Scalars, StandardLogging

__all__ = [
    "Console",
    "JSONLines",
    "LogRecord",
    "Reporter",
    "Scalars",
    "Sink",
    "StandardLogging",
]
