"""The report of ``discover``: candidates, what is ruled out, and lines to paste."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from ..errors import ConfigError, HeadError
from ..reporting import counted
from ..training import Handle, attach
from .candidate import Candidate

__all__ = ["NEVER_CALLED", "DiscoverReport", "RuledOut"]

NEVER_CALLED = "never called as a module in training (unused, or a function uses its weight)"
"""Why modules are ruled out that may be many: they share one line below the table."""

_MOST_NAMED = 3
"""The largest number of modules that are all named; of more, the first few and their number."""

_WHERE = {"head", "splits", "modalities", "dim", "output"}
"""The arguments of ``attach`` that a candidate decides."""


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
                remedy="; ".join(self.notes) or "report.print() says why",
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

    def __repr__(self) -> str:
        """One line: ``discover()`` has printed the rest already."""
        best = f", the best is {_links(self.candidates[0])}" if self.candidates else ""
        found = counted(len(self.candidates), "candidate") + best
        out = counted(len(self.ruled_out), "module")
        return f"<DiscoverReport: {found}; {out} ruled out; .print() shows them>"

    def table(self) -> Table:
        """One numbered row for each candidate, then one for each reason that rules modules out.

        Modules that are never called are in ``text()``.
        """
        table = Table(title="C-MIEI: candidates for the head", title_justify="left")
        for header in ("", "head", "in eval", "why"):
            table.add_column(header)
        for number, found in enumerate(self.candidates, 1):
            table.add_row(
                f"[green]{number}[/]",
                escape(_links(found)),
                "called" if found.called_in_eval else "[yellow]not called[/]",
                escape(found.reason),
            )
        table.add_section()
        for reason, names in self._reasons().items():
            if reason != NEVER_CALLED:
                table.add_row("[red]no[/]", escape(_counted(names)), "", escape(reason))
        return table

    def text(self) -> str:
        """The lines to paste, best first, each under its number, then the notes.

        Below each line of Python are the options of ``cmiei diagnose`` that mean the same.
        """
        lines = [
            f"# {number}\n{found.line}\n# cmiei diagnose {found.options}"
            for number, found in enumerate(self.candidates, 1)
        ]
        if uncalled := self._reasons().get(NEVER_CALLED):
            lines.append(f"note: {_counted(uncalled)}: {NEVER_CALLED}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def print(self) -> None:
        """Print the table and the text to stdout; no line is wrapped, so that it can be pasted."""
        console = Console()
        if self.candidates or self._reasons().keys() - {NEVER_CALLED}:
            console.print(self.table())
        console.print(self.text(), soft_wrap=True, markup=False, highlight=False)

    def _reasons(self) -> dict[str, list[str]]:
        """The modules that are ruled out for each reason."""
        reasons: dict[str, list[str]] = {}
        for out in self.ruled_out:
            reasons.setdefault(out.reason, []).append(out.head)
        return reasons


def _links(found: Candidate) -> str:
    """The head of a candidate in words."""
    return (" + " if found.combine else " -> ").join(found.links) or "the whole model"


def _counted(names: list[str]) -> str:
    """The names, or their number and the first few."""
    if len(names) <= _MOST_NAMED:
        return ", ".join(names)
    return f"{len(names)} modules ({', '.join(names[:_MOST_NAMED])}, ...)"
