"""A report as one HTML file, which opens offline: no scripts, no fonts, nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from .formatting import visible
from .plots import legend_mark, svg
from .sections import Report

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["style", "to_html"]

_ROWS = 10
"""How many rows of a long table are shown."""


def to_html(report: Report) -> str:
    """The report as a whole HTML document. The templates escape every text."""
    return _template().render(report=report)


@cache
def style() -> str:
    """The style sheet, which also has the colours of the plots."""
    return (files(__package__) / "templates" / "style.css").read_text(encoding="utf-8")


def _template(autoescape: bool = True) -> Template:
    # Imported here: Jinja2 comes with torch, and training does not need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    def clean(value: object) -> object:
        return value if isinstance(value, Markup) else visible(value)

    environment = Environment(
        loader=PackageLoader("cmiei_hooks.reporting"),
        autoescape=autoescape,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda part: type(part).__name__
    # ElementTree has built these, and it escapes.
    environment.filters["svg"] = lambda plot: Markup(svg(plot))
    environment.filters["mark"] = lambda colour: Markup(legend_mark(colour))
    constants = {"style": Markup(style()), "rows": _ROWS}
    return environment.get_template("report.html.j2", globals=constants)
