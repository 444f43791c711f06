"""The settings of C-MIEI: one frozen dataclass, the checks of its fields, and how YAML is read.

Every other room takes a ``Config``; none reads a setting from anywhere else.
"""

from .config import Config, ConfigSource, add_cmiei_config
from .section import SECTION
from .setting import describe
from .yaml import parse_value

__all__ = [
    "SECTION",
    "Config",
    "ConfigSource",
    "add_cmiei_config",
    "describe",
    "parse_value",
]
