"""What ``attach`` registers: the estimate, selection and substitution of each training call.

This is the only room with hooks and state that outlive one call.
"""

from .attachment import attach, detach
from .checkpoint_replay import without_backward
from .handle import Handle, InertHandle
from .pre_hook import PreHook, paused
from .schedule import Schedule
from .selection import HeadCall, Published, Strategy, strategy_of
from .step import Measurement
from .substitution import Noise, noise_generator, substituted

__all__ = [
    "Handle",
    "HeadCall",
    "InertHandle",
    "Measurement",
    "Noise",
    "PreHook",
    "Published",
    "Schedule",
    "Strategy",
    "attach",
    "detach",
    "noise_generator",
    "paused",
    "strategy_of",
    "substituted",
    "without_backward",
]
