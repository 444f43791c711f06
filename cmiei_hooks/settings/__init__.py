"""The settings of C-MIEI: ``Config``, the checks of its fields, and the files it is read from.

Every other room takes a ``Config``; none reads a setting from anywhere else.
"""

from .checks import refuse_both
from .config import Config, ConfigSource
from .effect import without_effect
from .presets import ENDS, PRESETS
from .section import SECTION
from .setting import choices, describe
from .yacs import add_cmiei_config
from .yaml import parse_value

__all__ = [
    "ENDS",
    "PRESETS",
    "SECTION",
    "Config",
    "ConfigSource",
    "add_cmiei_config",
    "choices",
    "describe",
    "parse_value",
    "refuse_both",
    "without_effect",
]
