"""Read a YAML file strictly: duplicate keys are refused, and every key knows its line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

__all__ = ["LinedDict", "read_yaml"]


class LinedDict(dict[Any, Any]):
    """A mapping read from YAML; ``lines`` holds the line of each key, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}


class _Loader(yaml.SafeLoader):
    def construct_lined_map(self, node: yaml.MappingNode) -> Iterator[LinedDict]:
        data = LinedDict()
        yield data
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = (
                self.construct_object(key_node, deep=True),
                key_node.start_mark.line + 1,
            )
            if key in data.lines:
                raise ConfigError(
                    f"{self.name}:{line}: duplicate key {key!r}",
                    got=f"{key!r} in line {data.lines[key]} and again in line {line}",
                    expected="every key once (YAML would silently keep the last one)",
                    remedy="remove one of the two",
                )
            data.lines[key] = line
        data.update(self.construct_mapping(node, deep=True))


def _ignore(loader: _Loader, suffix: str, node: yaml.Node) -> None:
    """Other sections of a user's file may hold tags that only their own code understands."""


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lined_map)
_Loader.add_multi_constructor("", _ignore)


def read_yaml(path: str | os.PathLike[str]) -> LinedDict:
    """Read a file whose root is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{os.fspath(path)}: the configuration cannot be read",
            got=str(error),
            expected="the path of a YAML file",
        ) from error
    loader = _Loader(text)
    loader.name = os.fspath(path)
    try:
        data = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"{os.fspath(path)}: not valid YAML", got=str(error)) from error
    finally:
        loader.dispose()
    if data is None:
        return LinedDict()
    if not isinstance(data, LinedDict):
        raise ConfigError(
            f"{os.fspath(path)}: the file does not hold settings",
            got=type(data).__name__,
            expected="a mapping, as in configs/default.yml",
        )
    return data
