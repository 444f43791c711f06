"""The report of ``verify``: one line for each check."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

__all__ = ["Check", "VerifyReport"]


@dataclass(frozen=True)
class Check:
    """One line of a report: what was checked, whether it passed, and what was found."""

    name: str
    ok: bool
    found: str


@dataclass(frozen=True)
class VerifyReport:
    """The checks of a dry run. A check that cannot be made is missing, or says so and is ok."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def __repr__(self) -> str:
        """One line: ``verify()`` has printed the table already."""
        failed = [check.name for check in self.checks if not check.ok]
        said = "no to " + ", ".join(failed) if failed else "all ok"
        return f"<VerifyReport: {len(self.checks)} checks, {said}>"

    def table(self) -> Table:
        """One row for each check."""
        table = Table(title="C-MIEI dry run", title_justify="left")
        for header in ("checked", "", "found"):
            table.add_column(header)
        for check in self.checks:
            mark = "[green]ok[/]" if check.ok else "[bold red]no[/]"
            table.add_row(check.name, mark, escape(check.found))
        return table
