"""The settings on a command line: a file, options, and trailing ``KEY VALUE``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, did_you_mean
from ..settings import SECTION, Config, choices, parse_value
from .values import one_of

__all__ = ["KEYS", "add_setting_arguments", "configuration", "overrides", "setting_name"]

KEYS = tuple(field.name.upper() for field in dataclasses.fields(Config))
"""The settings, as they are written in YAML and after the options."""

_PREFIX = ".".join(SECTION) + "."


def add_setting_arguments(group: argparse._ArgumentGroup, *, trailing: bool = True) -> None:
    """The settings, and trailing ``KEY VALUE`` if the command has no other words."""
    group.add_argument("--config", metavar="YAML", help="file with a section MODEL.C_MIEI")
    for name, text in {"drop": "baseline for a modality (zero)", "measure": _MEASURE}.items():
        words = choices(Config, name)
        metavar = "{" + ",".join(words) + "}"
        group.add_argument(f"--{name}", type=one_of(words), metavar=metavar, help=text)
    if trailing:
        group.add_argument(
            "opts",
            nargs="*",
            metavar="KEY VALUE",
            help="settings that override all others: ABS_THR 0.05 REL_THR 1.5",
        )


_MEASURE = "measure of influence (kl)"


def configuration(args: argparse.Namespace) -> Config:
    """The settings in force: the file, then the options, then the trailing ``KEY VALUE``.

    Raises:
        CMIEIError: a setting is unknown, without a value or out of range.
    """
    options = ("drop", "measure", "head", "combine", "splits", "names", "fill", "seed")
    given = {name: getattr(args, name, None) for name in options}
    if ":" in (given["combine"] or ""):
        given["combine"] = None  # a function, which the command imports
    base = Config() if args.config is None else Config.load(args.config)
    known = {name: value for name, value in given.items() if value is not None}
    return base.override(**known).override(**overrides(args.opts))


def overrides(opts: list[str]) -> dict[str, Any]:
    """Trailing ``KEY VALUE`` as fields of Config by their lower-case names.

    Raises:
        ConfigError: a word is not the name of a setting, or has no value.
    """
    settings = {}
    for name, value in _pairs(opts):
        try:
            settings[name.lower()] = parse_value(value)
        except ConfigError as error:
            raise error.at(name) from None
    return settings


def _pairs(opts: list[str]) -> Iterator[tuple[str, str]]:
    words = iter(opts)
    for word in words:
        name, value = setting_name(word), next(words, None)
        if name is None or word.removeprefix(_PREFIX) != name:
            raise _unknown(word, name, value)
        if value is None or value.removeprefix(_PREFIX) in KEYS:
            raise ConfigError(
                f"the setting {name} has no value",
                got=f"{name} at the end" if value is None else f"{name} {value}",
                expected="pairs of a setting and its value: KEY VALUE KEY VALUE",
                remedy=f"write a value behind {name}; its default is {_default(name)}",
            )
        yield name, value


def setting_name(word: str) -> str | None:
    """The setting that a word names in whichever way: ``rel-thr``, ``REL_THR=2``; None if none."""
    name = word.partition("=")[0].strip("-: ").replace("-", "_").upper()
    name = name.removeprefix(_PREFIX).rpartition(".")[2]
    return name if name in KEYS else None


def _unknown(word: str, name: str | None, following: str | None) -> ConfigError:
    key, equals, value = word.partition("=")
    if name is None:
        near = did_you_mean(key.rpartition(".")[2], KEYS)
        remedy = near or "all settings are in docs/configuration.md"
    else:
        remedy = f"write {name} {value if equals else following or 'VALUE'}"
    return ConfigError(
        f"unknown setting {word[:80]!r}" if name is None else "a setting is written KEY VALUE",
        got=repr(word[:80]),
        expected="a setting in capitals and its value as the next word, such as ABS_THR 0.05",
        remedy=remedy,
    )


def _default(name: str) -> object:
    return getattr(Config, name.lower())
