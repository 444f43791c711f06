"""The report as pages for people: HTML and Markdown."""

from .html import to_html
from .markdown import to_markdown

__all__ = ["to_html", "to_markdown"]
