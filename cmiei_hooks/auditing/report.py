"""The report of an audit: its results, which can be printed and written to files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from ..reporting import to_csv, to_html, to_json, to_markdown, to_terminal, write_files
from .report_sections import in_sections
from .results import Results

__all__ = ["AuditReport"]


@dataclass(frozen=True)
class AuditReport(Results):
    """How much the predictions of a model depend on each modality.

    Means and shares are over the samples with finite logits, with 95 % intervals of the bootstrap.
    """

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write ``report.json``, ``samples.csv``, ``report.md`` and ``report.html``.

        Returns:
            The path of ``report.json``.
        """
        folder = Path(directory)
        report = in_sections(self)
        content = {
            "samples.csv": to_csv(self.rows),
            "report.md": to_markdown(report),
            "report.html": to_html(report),
            "report.json": to_json(self.to_dict()),
        }
        write_files(folder, content)
        return folder / "report.json"

    def _repr_markdown_(self) -> str:
        """In a notebook the report looks as in ``report.md``."""
        return to_markdown(in_sections(self))

    __str__ = _repr_markdown_

    def table(self) -> RenderableType:
        """The report for the terminal, to be printed by rich."""
        return to_terminal(in_sections(self))
