"""The console logger: plain lines and no live display, for pipes and beside progress bars."""

from __future__ import annotations

import contextlib
import sys

from rich.console import Console as RichConsole
from rich.text import Text

from .log_line import LogRecord

__all__ = ["Console"]


class Console:
    """Prints every record as one line on stdout, in colour if the terminal has it.

    Args:
        console: print on this console of rich instead.

    Example:
        >>> attach(model, head="classifier", splits=[512, 512], log=Console())
    """

    def __init__(self, console: RichConsole | None = None) -> None:
        # The default console looks up sys.stdout when it prints, so redirections keep working.
        self._console = RichConsole(highlight=False) if console is None else console
        self._on_stdout = console is None

    def __call__(self, record: LogRecord) -> None:
        """Print one record."""
        line = Text(_encodable(record.text(), self._console.encoding))  # not markup: [ in names
        line.highlight_regex(r"^C-MIEI \S+", "bold")
        line.highlight_regex(r"\b(C_MIEI_Ratio|CI_\S+|Hist\[.*?\])", "cyan")
        try:
            self._print(line)
        except SystemExit as error:  # rich's way to report a pipe that the reader has closed
            raise BrokenPipeError("the reader of the output is gone") from error

    def _print(self, line: Text) -> None:
        if self._on_stdout and hasattr(sys.stdout, "rich_proxied_file"):
            # A rich progress bar is running. It prints what is written and redraws itself below.
            with self._console.capture() as captured:
                self._console.print(line, soft_wrap=True)
            sys.stdout.write(captured.get())
            return
        with _beside_tqdm(self._console):
            self._console.print(line, soft_wrap=True)


def _encodable(text: str, encoding: str) -> str:
    """The text with escapes for what the output cannot show, such as umlauts in ASCII."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _beside_tqdm(console: RichConsole) -> contextlib.AbstractContextManager[object]:
    """Let tqdm, if the program uses it, clear its bars and redraw them below the line."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        return contextlib.nullcontext()
    bars: contextlib.AbstractContextManager[object] = tqdm.tqdm.external_write_mode(
        file=console.file
    )
    return bars
