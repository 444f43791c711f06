"""Read a YAML file so that every key knows its line and duplicate keys are seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

__all__ = ["LinedDict", "read_yaml"]


class LinedDict(dict[Any, Any]):
    """A mapping read from YAML that knows the lines of its keys, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}
        self.repeated: list[tuple[Any, int, int]] = []
        """Key, first line, line where it comes again."""


@dataclass(frozen=True)
class UnknownTag:
    """Stands for a value whose tag only other people's code understands; no setting accepts it."""

    tag: str

    def __repr__(self) -> str:
        return f"a value with the tag {self.tag}"


class _Loader(yaml.SafeLoader):
    def construct_lined_map(self, node: yaml.MappingNode) -> Iterator[LinedDict]:
        data = LinedDict()
        yield data
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if key in data.lines:
                data.repeated.append((key, data.lines[key], line))
            data.lines[key] = line
        data.update(self.construct_mapping(node, deep=True))

    def construct_tuple(self, node: yaml.SequenceNode) -> list[Any]:
        return self.construct_sequence(node, deep=True)


def _unknown(loader: _Loader, suffix: str, node: yaml.Node) -> UnknownTag:
    return UnknownTag(node.tag)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lined_map)
# yacs writes tuples so.
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)
_Loader.add_multi_constructor("", _unknown)


def read_yaml(path: str | os.PathLike[str]) -> LinedDict:
    """Read a file whose root is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise ConfigError(
            f"{os.fspath(path)}: the configuration cannot be read",
            got=str(error),
            expected="the path of a YAML file",
            remedy="check the path; it is relative to the working directory",
        ) from error
    try:
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(  # PyYAML raises bare errors for dates, keys and numbers that are none
            f"{os.fspath(path)}: not valid YAML",
            got=f"{type(error).__name__}: {error}",
            expected="a mapping of settings",
            remedy="correct the file where the message points to",
        ) from error
    if data is None:
        return LinedDict()
    if not isinstance(data, LinedDict):
        raise ConfigError(
            f"{os.fspath(path)}: the file does not hold settings",
            got=type(data).__name__,
            expected="a mapping of settings",
            remedy="write KEY: value lines, below MODEL: and C_MIEI: or alone",
        )
    return data
