"""The rich console logger: plain lines, no live display, so pipes and progress bars are safe."""

from __future__ import annotations

import contextlib
import sys

from rich.console import Console as RichConsole
from rich.text import Text

from .record import LogRecord

__all__ = ["Console"]


class Console:
    """Prints every record as one line on stdout, coloured where the terminal can."""

    def __init__(self, console: RichConsole | None = None) -> None:
        # The default console looks up sys.stdout when it prints, so redirections keep working.
        self._console, self._own = console or RichConsole(highlight=False), console is None

    def __call__(self, record: LogRecord) -> None:
        """Print one record."""
        line = Text(record.text())
        line.highlight_regex(r"^C-MIEI \S+", "bold")
        line.highlight_regex(r"\b(C_MIEI_Ratio|CI_\S+|Hist\[.*?\])", "cyan")
        if self._own and hasattr(sys.stdout, "rich_proxied_file"):
            # A rich progress bar is running: it takes what is printed and draws itself below.
            with self._console.capture() as captured:
                self._console.print(line, soft_wrap=True)
            sys.stdout.write(captured.get())
            return
        with self._beside_tqdm():
            self._console.print(line, soft_wrap=True)

    def _beside_tqdm(self) -> contextlib.AbstractContextManager[object]:
        # tqdm clears its bars and draws them again below the line; only asked if it is in use.
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            return contextlib.nullcontext()
        bars: contextlib.AbstractContextManager[object] = tqdm.tqdm.external_write_mode(
            file=self._console.file
        )
        return bars
