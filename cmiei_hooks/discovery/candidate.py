"""One way to attach that ``discover`` has found, as arguments, Python and command-line options."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..fusion import Field, Output, Path
from .functions import ACTIVATIONS
from .layout import Layout

__all__ = ["Candidate", "Link", "candidate", "logits_at"]


Link = str | Callable[[Tensor], Tensor]
"""The name of a module, or a function between two modules."""

_FUNCTION_NAMES = {function: name for name, function in ACTIVATIONS.items()}


@dataclass(frozen=True)
class Candidate:
    """One way to attach, as arguments, as a line of Python and as options of ``cmiei diagnose``."""

    head: tuple[Link, ...]
    """One module, or a chain, which may contain functions."""
    splits: tuple[int, ...] | None
    modalities: dict[str, Any] | None
    """Instead of splits: positions, keywords, keys, indices or blocks."""
    names: tuple[str, ...]
    dim: int
    output: tuple[Output, ...]
    """One for each module of the head."""
    classes: int
    """The width of the logits; for 1 the line passes ``measure="bernoulli"``."""
    reason: str
    called_in_eval: bool
    """If False, an audit needs the training branch."""
    same_in_eval: bool = True
    """If False, it returns something else in eval mode, and an audit needs the training branch."""
    combine: str | None = None
    """If given, the head is one branch for each name: the model returns their sum or mean."""
    fill: dict[str, int] | None = None
    """By the name of a modality of whole numbers, what takes its place."""

    @property
    def links(self) -> tuple[str, ...]:
        """The names of the modules and functions of the head."""
        return tuple(one if isinstance(one, str) else _FUNCTION_NAMES[one] for one in self.head)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``attach`` that differ from the defaults."""
        arguments: dict[str, Any] = {
            "head": self.head[0] if len(self.head) == 1 else list(self.head)
        }
        if self.combine is not None:
            arguments = {"head": dict(zip(self.names, self.head, strict=True))}
            arguments["combine"] = self.combine
        elif self.splits is None:
            arguments["modalities"] = self.modalities
        else:
            arguments |= {"splits": list(self.splits), "names": list(self.names)}
        if self.fill:
            arguments["fill"] = self.fill
        if self.dim != -1:
            arguments["dim"] = self.dim
        if any(one is not None for one in self.output):
            outputs = [list(one) if isinstance(one, tuple) else one for one in self.output]
            arguments["output"] = outputs[0] if len(outputs) == 1 else outputs
        if self.classes == 1:
            arguments["measure"] = "bernoulli"
        return arguments

    @property
    def line(self) -> str:
        """A line of Python that attaches here, if ``model`` is the model."""
        given = [f"{key}={_python(value)}" for key, value in self.arguments.items()]
        return f"cmiei_hooks.attach({', '.join(['model', *given])})"

    @property
    def options(self) -> str:
        """The same as options of ``cmiei diagnose``, with quotes for a shell."""
        words = ["--head", ",".join(self.links)]
        if self.combine is not None:
            branches = [f"{name}={link}" for name, link in zip(self.names, self.links, strict=True)]
            words = ["--head", ",".join(branches), "--combine", self.combine]
        if self.splits is not None:
            words += ["--splits", _splits(self.names, self.splits)]
        if self.fill and _are_plain(self.fill):
            words += ["--fill", ",".join(f"{name}={value}" for name, value in self.fill.items())]
        given = {
            "--modalities": self.modalities,
            "--dim": self.arguments.get("dim"),
            "--logits": self.arguments.get("output"),
            "--measure": self.arguments.get("measure"),
        }
        for option, value in given.items():
            words += [] if value is None else [option, _yaml(value)]
        if not (self.called_in_eval and self.same_in_eval):
            words.append("--training-branch")
        if self.fill and not _are_plain(self.fill):
            words += ["FILL", _flow(self.fill)]
        return shlex.join(words)


def candidate(
    head: Sequence[Link],
    layout: Layout,
    outputs: Sequence[Path],
    classes: int,
    *,
    reason: str,
    called_in_eval: bool,
    same_in_eval: bool,
) -> Candidate:
    """A candidate whose ``output`` is an index, a key or several that lead to the logits."""
    return Candidate(
        tuple(head),
        layout.splits,
        layout.modalities,
        layout.names,
        layout.dim,
        tuple(map(logits_at, outputs)),
        classes,
        reason,
        called_in_eval,
        same_in_eval,
    )


def logits_at(address: Path) -> Output:
    """What ``output=`` is for logits at this address in a return value."""
    keys = tuple(str(key) if isinstance(key, Field) else key for key in address)
    if len(keys) > 1:
        return keys
    return keys[0] if keys else None


def _splits(names: Sequence[str], widths: Sequence[int]) -> str:
    # Other names are left out.
    named = zip(names, widths, strict=True)
    words = [f"{n}={w}" for n, w in named] if _are_plain(names) else map(str, widths)
    return ",".join(words)


def _are_plain(names: Iterable[str]) -> bool:
    """Whether the command line takes them: a comma ends a name, and blanks around it are lost."""
    return all("," not in name and name == name.strip() for name in names)


def _yaml(value: Any) -> str:
    """The value as YAML; a list of plain words needs no brackets on the command line."""
    if isinstance(value, list) and not any(isinstance(one, (list, dict)) for one in value):
        words = [_flow(one) for one in value]
        if len(words) > 1 and not any("," in word or '"' in word for word in words):
            return ",".join(words)
    return _flow(value)


def _flow(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and not (value.isidentifier() and value.lower() not in _NOT_WORDS):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


_NOT_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}
"""What YAML reads as something else than a word."""


def _python(value: Any) -> str:
    """The value as Python source, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    if callable(value):
        return _FUNCTION_NAMES[value]
    return repr(value)
