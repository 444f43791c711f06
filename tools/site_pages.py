"""What mkdocs does not do: pages that lie outside of ``docs/``, and links to source files.

``README.md``, ``CONTRIBUTING.md``, ``CHANGELOG.md`` and ``examples/README.md`` become pages. A
source file that a page links to becomes a page too: links work without a forge, and offline.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
}
"""Files of the repository, and the pages that they become."""
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.M | re.S)
TARGET = re.compile(r"(\]\(|\b(?:src|srcset|href)=\")([^)\s\"]+)")
LANGUAGES = {".cfg": "ini", ".ipynb": "json", ".py": "python", ".toml": "toml", ".yml": "yaml"}


def page_of(path: str) -> str:
    """The page, or the picture, that shows a file of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path.lstrip('.')}.md"  # mkdocs leaves out what begins with a dot


def linked(text: str, path: str) -> list[str]:
    """The files of the repository that a file of it links to, by their paths."""
    prose = CODE.sub("", text)
    return [found for _, link in TARGET.findall(prose) if (found := _file(link, path))]


def with_site_links(text: str, path: str) -> str:
    """The text of a file with links that lead to pages instead of files.

    Example:
        >>> with_site_links("[formulas](../cmiei_hooks/functional.py)", "docs/heads.md")
        '[formulas](source/cmiei_hooks/functional.py.md)'
    """
    here = posixpath.dirname(page_of(path))

    def replaced(match: re.Match[str]) -> str:
        file, anchor = _file(match[2], path), match[2].partition("#")[2]
        if not file:
            return match[0]
        target = posixpath.relpath(page_of(file), here or ".")
        return match[1] + target + (f"#{anchor}" if anchor else "")

    parts = CODE.split(text)  # code at the odd places
    parts[::2] = [TARGET.sub(replaced, part) for part in parts[::2]]
    return "".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of ``docs/``, and the source files that any page links to."""
    pages = [*OUTSIDE, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    sources = set()
    for path in pages:
        sources.update(linked((ROOT / path).read_text(encoding="utf-8"), path))
    for path in sorted(sources - set(OUTSIDE)):
        if not path.startswith("docs/"):
            files.append(File.generated(config, page_of(path), content=_source_page(path)))
    for path, page in OUTSIDE.items():
        content = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links to files of the repository into links to pages."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    path = {page: file for file, page in OUTSIDE.items()}.get(uri, f"docs/{uri}")
    return with_site_links(markdown, path)


def _file(link: str, path: str) -> str:
    """The file that a link of this file leads to, or nothing."""
    name = link.partition("#")[0]
    if not name or re.match(r"[\w+.-]+:", link):
        return ""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    return file if (ROOT / file).is_file() else ""


def _source_page(path: str) -> str:
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return (
        f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n"
        f"# {path}\n\n`````{language}\n{text}\n`````\n"
    )
