"""What ``attach`` registers: in each training call of the head estimate, select, substitute and
add up.

This is the only room with hooks and state that outlive one call.
"""

from .attachment import Handle, attach
from .pre_hook import PreHook, paused
from .step import Measurement
from .substitution import noise_generator, substituted

__all__ = [
    "Handle",
    "Measurement",
    "PreHook",
    "attach",
    "noise_generator",
    "paused",
    "substituted",
]
