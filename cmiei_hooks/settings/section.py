"""Find the section ``MODEL.C_MIEI`` in a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .yaml import LinedDict

__all__ = ["SECTION", "find_section"]

SECTION = ("MODEL", "C_MIEI")


def find_section(source: Mapping[Any, Any], where: str) -> Mapping[Any, Any]:
    """The settings in a mapping: its ``MODEL.C_MIEI``, its ``C_MIEI``, or the mapping itself.

    Raises:
        ConfigError: the section is missing, or a key that matters is repeated.
    """
    outer, inner = SECTION
    _refuse_repeated(source, where, outer, inner)
    holder = source.get(outer, source)
    if not isinstance(holder, Mapping):
        raise _no_section(where, outer, holder)
    if holder is source and inner not in holder:
        _refuse_repeated(source, where)
        return source
    _refuse_repeated(holder, where, inner)
    if inner not in holder:
        raise ConfigError(
            f"{where}: no section {outer}.{inner}",
            got=f"{outer} with " + (", ".join(map(str, holder)) or "nothing in it"),
            expected=f"{outer}.{inner}",
            remedy="add the section; with yacs: add_cmiei_config(cfg)",
        )
    section = holder[inner]
    if section is None:  # a header with nothing below it
        return {}
    if not isinstance(section, Mapping):
        raise _no_section(where, f"{outer}.{inner}", section)
    _refuse_repeated(section, where)
    return section


def _no_section(where: str, name: str, value: object) -> ConfigError:
    return ConfigError(
        f"{where}: {name} is not a section",
        got=type(value).__name__,
        expected="a mapping of settings",
        remedy=f"indent the settings below {name}:",
    )


def _refuse_repeated(mapping: Mapping[Any, Any], where: str, *keys: str) -> None:
    """Refuse keys that a file has twice: the given ones, or all."""
    repeated = mapping.repeated if isinstance(mapping, LinedDict) else []
    for key, first, second in repeated:
        if key in keys or not keys:
            raise ConfigError(
                f"{where}:{second}: duplicate key {key!r}",
                got=f"{key!r} in line {first} and again in line {second}",
                expected="every key once (YAML would silently keep the last one)",
                remedy="remove one of the two",
            )
