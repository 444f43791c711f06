"""Read YAML safely: bounded in time and memory, and every key of a file knows its line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

__all__ = ["LinedDict", "is_number", "parse_value", "read_yaml"]

_CHARACTERS, _NODES, _DEPTH, _DIGITS = 1_000_000, 20_000, 50, 100
"""The largest document, with all aliases expanded, and the longest number that are read."""


class LinedDict(dict[Any, Any]):
    """A mapping read from YAML that knows the lines of its keys, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}
        self.repeated: list[tuple[Any, int, int]] = []
        """For each repeated key: the key, its first line and the line of the repetition."""


@dataclass(frozen=True)
class UnknownTag:
    """A value whose tag only other code understands. No setting accepts it."""

    tag: str

    def __repr__(self) -> str:
        return f"a value with the tag {self.tag}"


class _BoundedLoader(yaml.SafeLoader):
    """Refuses documents that are small on disk and huge in memory.

    The limits are checked while the nodes are composed, before any value is built.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open = self._nodes = 0
        self._extents: dict[yaml.Node, tuple[int, int]] = {}
        """Size and depth of each complete node, aliases expanded."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs have none
        self._open += 1
        self._nodes += 1
        _within(self._nodes, self._open, mark)
        node = super().compose_node(parent, index)
        self._open -= 1
        if node is None:
            return None
        if alias and node not in self._extents:
            raise yaml.MarkedYAMLError(problem="a node contains itself", problem_mark=mark)
        if not alias:
            inner = [self._extents[child] for child in _children(node)]
            size = 1 + sum(size for size, _ in inner)
            depth = 1 + max((depth for _, depth in inner), default=0)
            _within(size, depth, mark)
            self._extents[node] = size, depth
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        return super().construct_yaml_int(_short(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        return super().construct_yaml_float(_short(node))


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _within(size: int, depth: int, mark: Any) -> None:
    if size > _NODES or depth > _DEPTH:
        problem = f"more than {_NODES} values, or nested deeper than {_DEPTH} levels"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _short(node: yaml.ScalarNode) -> yaml.ScalarNode:
    if len(node.value) > _DIGITS:
        problem = f"a number of more than {_DIGITS} characters"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return node


_BoundedLoader.add_constructor("tag:yaml.org,2002:int", _BoundedLoader.construct_yaml_int)
_BoundedLoader.add_constructor("tag:yaml.org,2002:float", _BoundedLoader.construct_yaml_float)


class _FileLoader(_BoundedLoader):
    """Keeps line numbers and repeated keys, and reads past tags that it does not know."""

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


def _unknown(loader: _FileLoader, suffix: str, node: yaml.Node) -> UnknownTag:
    return UnknownTag(node.tag)


_FileLoader.add_constructor("tag:yaml.org,2002:map", _FileLoader.construct_lined_map)
# yacs writes tuples with this tag.
_FileLoader.add_constructor("tag:yaml.org,2002:python/tuple", _FileLoader.construct_tuple)
_FileLoader.add_multi_constructor("", _unknown)


def read_yaml(path: str | os.PathLike[str]) -> LinedDict:
    """Read a file whose root is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, is too large, or is not a mapping.
    """
    where = os.fspath(path)
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise ConfigError(
            f"{where}: the configuration cannot be read",
            got=str(error),
            expected="the path of a YAML file",
            remedy="check the path; it is relative to the working directory",
        ) from error
    data = _load(text, _FileLoader, f"{where}: not valid YAML", "a mapping of settings")
    if data is None:
        return LinedDict()
    if not isinstance(data, LinedDict):
        raise ConfigError(
            f"{where}: the file does not hold settings",
            got=type(data).__name__,
            expected="a mapping of settings",
            remedy="write KEY: value lines, below MODEL: and C_MIEI: or at the top level",
        )
    return data


def parse_value(text: str) -> Any:
    """Read one YAML value, such as a word of a command line.

    Raises:
        ConfigError: the text is not YAML, or it is too large.

    Example:
        >>> parse_value("[512, 512]")
        [512, 512]
    """
    return _load(text, _BoundedLoader, "not a YAML value", "a number, a word, a list or a mapping")


def is_number(text: str) -> bool:
    """Whether YAML reads the text, written without quotes, as a number."""
    resolver = yaml.SafeLoader("")
    tag = resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # the stubs have none
    return tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _load(text: str, loader: type[_BoundedLoader], problem: str, expected: str) -> Any:
    try:
        if len(text) > _CHARACTERS:
            raise yaml.YAMLError(f"more than {_CHARACTERS} characters")
        return yaml.load(text, Loader=loader)  # a SafeLoader
    # PyYAML raises Python's own errors for dates, numbers and keys that make no sense.
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(
            problem,
            got=f"{type(error).__name__}: {error}",
            expected=expected,
            remedy="correct the YAML where the message points to",
        ) from error
