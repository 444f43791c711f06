"""Which settings a source gives: a YAML file, a mapping, a yacs or OmegaConf node, a namespace."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, did_you_mean
from .section import find_section
from .setting import refusal
from .yaml import LinedDict, read_yaml

__all__ = ["Given", "read_source"]


@dataclass(frozen=True)
class Given:
    """The settings that a source gives."""

    settings: Mapping[str, Any]
    """By their lower-case names; not checked yet."""
    found_at: Mapping[str, str]
    """Where each is, by the problem of its refusal."""
    where: str
    """The source itself, in words."""


def read_source(source: object, defaults: Mapping[str, Any]) -> Given:
    """Find the settings in a source; ``Config.load`` says what it may be.

    Args:
        source: to be read.
        defaults: of all settings.

    Raises:
        ConfigError: a key is unknown or repeated, or the section or the file is missing.
    """
    if isinstance(source, (str, os.PathLike)):
        where = os.fspath(source)
        return _given(find_section(read_yaml(where), where), where, defaults)
    if isinstance(source, argparse.Namespace):
        known = {k: v for k, v in vars(source).items() if k in defaults}
        if not known:
            raise ConfigError(
                "the namespace holds no setting of C-MIEI",
                got=", ".join(sorted(vars(source))) or "an empty namespace",
                expected="attributes named like the fields of Config: k, sigma, abs_thr, ...",
                remedy="add them to the parser, or pass a mapping or a file",
            )
        return _given(_without(defaults, known), "namespace", defaults)
    if isinstance(source, Mapping):
        section = find_section(source, "mapping")
        if hasattr(section, "is_frozen"):  # of yacs
            section = _without(defaults, section)
        return _given(section, "mapping", defaults)
    raise ConfigError(
        "no configuration can be read from this",
        got=type(source).__name__,
        expected="a path, a mapping, a yacs or OmegaConf node, a namespace or a Config",
        remedy="pass the settings as keywords of attach()",
    )


def _without(defaults: Mapping[str, Any], section: Mapping[Any, Any]) -> dict[Any, Any]:
    """A section without what has its default.

    Parsers and nodes of yacs hold every setting, whether it was given or not.
    """
    lower = {key: str(key).lower() for key in section}
    return {
        key: value
        for key, value in section.items()
        if lower[key] not in defaults or value != defaults[lower[key]]
    }


def _given(section: Mapping[Any, Any], where: str, defaults: Mapping[str, Any]) -> Given:
    lines = section.lines if isinstance(section, LinedDict) else {}
    settings: dict[str, Any] = {}
    found_at: dict[str, str] = {}
    for key in section:
        at = f"{where}:{lines[key]}" if key in lines else where
        field = str(key).lower()
        if field not in defaults or str(key) not in (field, field.upper()):
            raise ConfigError(
                f"{at}: unknown setting {key!r}",
                got=repr(key),
                expected="one of " + ", ".join(name.upper() for name in defaults),
                remedy="pass it to attach() as an argument"
                if field in ("modalities", "dim", "output", "log")
                else did_you_mean(str(key), [name.upper() for name in defaults])
                or "remove it, or correct its name",
            )
        if field in settings:
            raise ConfigError(
                f"{at}: {field.upper()} is set twice",
                got=f"{key!r} again",
                expected="every setting once",
                remedy="remove one of the two",
            )
        settings[field], found_at[refusal(field)] = section[key], at
    return Given(settings, found_at, where)
