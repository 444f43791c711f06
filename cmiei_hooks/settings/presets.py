"""The presets: settings that belong together, under one name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import ConfigError

__all__ = ["ENDS", "OF_PRESETS", "PRESETS", "in_words", "refuse_overridden"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "published": {},
    "selfpaced": {
        "selection": "soft",
        "tau_samples": 0.5,
        "tau_modalities": -1.0,
        "rate": 0.5,
        "gate": 0.5,
        "sigma": 1.0,
        "sigma_unit": "std",
        "k": 1,
        "warmup_epochs": 0,
    },
}
"""For each name the settings that differ from those of the method as published."""

ENDS: Mapping[str, float] = {"selfpaced": 0.8}
"""The presets that need an end, after this share of the training."""

OF_PRESETS = frozenset(key for preset in PRESETS.values() for key in preset)
"""The settings that some preset changes."""


def in_words(name: str) -> str:
    """The settings of a preset, in Markdown."""
    return ", ".join(f"`{key.upper()} {value}`" for key, value in PRESETS[name].items())


def refuse_overridden(
    name: str, given: Collection[str], values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Refuse a preset that changes nothing, as in a copy of a file that has every default.

    Args:
        name: of the preset.
        given: the settings that were given beside it.
        values: of the settings that were given.
        defaults: the settings as published.

    Raises:
        ConfigError: all its settings are given, as published.
    """
    preset = PRESETS[name]
    if preset and all(key in given and values[key] == defaults[key] for key in preset):
        keys = ", ".join(key.upper() for key in preset)
        raise ConfigError(
            f"PRESET {name} has no effect",
            got=f"{keys} beside it, all as published",
            expected="beside PRESET only what shall differ from it: single settings win",
            remedy=f"remove {keys}",
        )
