"""The report of ``discover``: candidates, what is ruled out, and lines to paste."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from ..errors import ConfigError, HeadError
from ..fusion import Field, Output, Path
from ..training import Handle, attach
from .layout import Layout

__all__ = ["Candidate", "DiscoverReport", "OutputPath", "RuledOut", "candidate"]

_MOST_NAMED = 3
"""How many modules the table names that are ruled out for the same reason."""

_WHERE = {"head", "splits", "modalities", "dim", "output"}
"""The arguments of ``attach`` that a candidate decides."""


@dataclass(frozen=True)
class OutputPath:
    """``output=`` for logits that are nested deeper than one index or key can reach."""

    address: Path

    def __call__(self, returned: Any) -> Tensor:
        """The logits in what the head returned."""
        for key in self.address:
            returned = getattr(returned, key) if isinstance(key, Field) else returned[key]
        found: Tensor = returned
        return found

    def __repr__(self) -> str:
        steps = [f".{k}" if isinstance(k, Field) else f"[{_python(k)}]" for k in self.address]
        return f"lambda out: out{''.join(steps)}"


@dataclass(frozen=True)
class Candidate:
    """One way to attach, as arguments and as a line of Python."""

    head: tuple[str, ...]
    """One module, or a chain."""
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

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``attach`` that differ from the defaults."""
        arguments: dict[str, Any] = {
            "head": self.head[0] if len(self.head) == 1 else list(self.head)
        }
        if self.splits is None:
            arguments["modalities"] = self.modalities
        else:
            arguments |= {"splits": list(self.splits), "names": list(self.names)}
        if self.dim != -1:
            arguments["dim"] = self.dim
        if any(one is not None for one in self.output):
            arguments["output"] = self.output[0] if len(self.output) == 1 else list(self.output)
        if self.classes == 1:
            arguments["measure"] = "bernoulli"
        return arguments

    @property
    def line(self) -> str:
        """A line of Python that attaches here, if ``model`` is the model."""
        given = [f"{key}={_python(value)}" for key, value in self.arguments.items()]
        return f"cmiei_hooks.attach({', '.join(['model', *given])})"


@dataclass(frozen=True)
class RuledOut:
    """A module that might be taken for the head, and why it cannot be the head."""

    head: str
    reason: str


@dataclass(frozen=True)
class DiscoverReport:
    """The candidates for the head, what is ruled out, and notes."""

    candidates: tuple[Candidate, ...]
    """Best first."""
    ruled_out: tuple[RuledOut, ...]
    notes: tuple[str, ...]
    """Inputs without effect, randomness, what to do if there is no candidate."""
    _model: weakref.ref[nn.Module] | None = field(default=None, repr=False, compare=False)
    """The model that was looked at, for ``attach``; copies and pickles of the report have none."""

    def attach(self, **settings: Any) -> Handle:
        """Attach to the best candidate: ``attach(model, **candidates[0].arguments, **settings)``.

        Args:
            **settings: arguments and settings of ``cmiei_hooks.attach`` that do not say where to
                attach: ``epoch``, ``log``, ``names``, ``config``, ``warmup_steps``, ...

        Raises:
            HeadError: there is no candidate, or the model is gone.
            ConfigError: an argument says where to attach.
            CMIEIError: as ``cmiei_hooks.attach``.

        Example:
            >>> handle = cmiei_hooks.discover(model, images, texts).attach(warmup_steps=1000)
        """
        if clash := sorted(settings.keys() & _WHERE):
            raise ConfigError(
                "discover() has found where to attach",
                got=", ".join(clash),
                expected="settings, and what does not say where: epoch, log, names, config",
                remedy="to choose the head yourself, call cmiei_hooks.attach(model, ...)",
            )
        if not self.candidates:
            raise HeadError(
                "discover() found no head to attach to",
                got=f"0 candidates, {len(self.ruled_out)} modules ruled out",
                expected="one candidate or more",
                remedy="; ".join(self.notes) or "print() the report: it says why",
            )
        model = None if self._model is None else self._model()
        if model is None:
            raise HeadError(
                "this report no longer knows its model",
                got="a copy of a report, or the report of a model that is gone",
                expected="the report that discover() returned, while the model is in use",
                remedy="call cmiei_hooks.attach(model, **report.candidates[0].arguments)",
            )
        return attach(model, **{**self.candidates[0].arguments, **settings})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None}

    def table(self) -> Table:
        """One numbered row for each candidate, then one for each reason that rules modules out."""
        table = Table(title="C-MIEI: candidates for the head", title_justify="left")
        for header in ("", "head", "in eval", "why"):
            table.add_column(header)
        for number, found in enumerate(self.candidates, 1):
            head = " -> ".join(found.head)
            table.add_row(
                f"[green]{number}[/]",
                escape(head),
                "called" if found.called_in_eval else "[yellow]not called[/]",
                escape(found.reason),
            )
        table.add_section()
        heads: dict[str, list[str]] = {}
        for out in self.ruled_out:
            heads.setdefault(out.reason, []).append(out.head)
        for reason, names in heads.items():
            named = ", ".join(names[:_MOST_NAMED])
            more = len(names) - _MOST_NAMED
            text = f"{len(names)} modules: {named}, ... ({more} more)" if more > 0 else named
            table.add_row("[red]no[/]", escape(text), "", escape(reason))
        return table

    def text(self) -> str:
        """The lines to paste, best first, each under its number, then the notes."""
        lines = [f"# {number}\n{found.line}" for number, found in enumerate(self.candidates, 1)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def print(self) -> None:
        """Print the table and the text to stdout; no line is wrapped, so that it can be pasted."""
        console = Console()
        if self.candidates or self.ruled_out:
            console.print(self.table())
        console.print(self.text(), soft_wrap=True, markup=False, highlight=False)


def candidate(
    head: Sequence[str],
    layout: Layout,
    outputs: Sequence[Path],
    classes: int,
    *,
    reason: str,
    called_in_eval: bool,
) -> Candidate:
    """A candidate whose ``output`` is an index, a key or a path to the logits."""
    return Candidate(
        tuple(head),
        layout.splits,
        layout.modalities,
        layout.names,
        layout.dim,
        tuple(_output(address) for address in outputs),
        classes,
        reason,
        called_in_eval,
    )


def _output(address: Path) -> Output:
    if len(address) > 1:
        return OutputPath(address)
    return address[0] if address else None


def _python(value: Any) -> str:
    """The value as Python source, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    return repr(value)
