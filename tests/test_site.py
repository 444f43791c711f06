"""The site: built strictly, with nothing from elsewhere and no link that leads nowhere."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers import ROOT

import cmiei_hooks

pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")
pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page loads, what it links to, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.anchors |= {named[key] for key in ("id", "name") if named.get(key)}
        for key in ("src", "srcset", "poster", "data"):
            self.loaded += [named[key]] if named.get(key) else []
        if link := named.get("href"):
            loads = tag == "link" and named.get("rel") not in ("canonical", "prev", "next")
            (self.loaded if loads else self.links).append(link)


def elsewhere(links: list[str]) -> list[str]:
    return [link for link in links if re.match(r"(\w+:)?//", link)]


def broken(page: Path, pages: dict[Path, Links]) -> list[str]:
    """The links of a page to files that are not in the site, or to anchors that a page lacks."""
    wrong = []
    for link in pages[page].links + pages[page].loaded:
        if re.match(r"\w+:|//", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        file = (page.parent / name).resolve() if name else page
        file = file / "index.html" if file.is_dir() else file
        known = pages[file].anchors if file in pages else set()
        if not file.is_file() or (anchor and not anchor.startswith("__") and anchor not in known):
            wrong.append(link)
    return wrong


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(site)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=source, env=env, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def site(once) -> Path:
    def fill(folder: Path) -> None:
        built = build(ROOT, folder)
        assert built.returncode == 0, built.stdout + built.stderr

    return once("site", fill).resolve()


@pytest.fixture(scope="module")
def pages(site, once) -> dict[Path, Links]:
    def fill(folder: Path) -> None:
        # 404.html has absolute addresses: it is shown in place of any page
        pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
        (folder / "pages").write_bytes(pickle.dumps({page: Links(page) for page in pages}))

    return pickle.loads((once("pages of the site", fill) / "pages").read_bytes())


def test_every_link_within_the_site_leads_to_a_page_and_an_anchor(site, pages):
    wrong = {page.relative_to(site): found for page in pages if (found := broken(page, pages))}
    assert wrong == {}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    assert {page: found for page in pages if (found := elsewhere(pages[page].loaded))} == {}
    styles = [file.read_text(encoding="utf-8") for file in site.rglob("*.css")]
    assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", "".join(styles))


@pytest.mark.negative_control
def test_a_broken_link_and_what_is_loaded_from_elsewhere_would_be_seen(tmp_path):
    page, other = (tmp_path.resolve() / name for name in ("index.html", "other.html"))
    other.write_text('<h2 id="there">x</h2>')
    page.write_text(
        '<link rel="stylesheet" href="https://fonts.example/x.css"><script src="//cdn/x.js">'
        '</script><a href="https://example.org">x</a><a href="other.html#there">x</a>'
        '<a href="other.html#gone">x</a><a href="gone.html">x</a>'
    )
    pages = {file: Links(file) for file in (page, other)}
    assert broken(page, pages) == ["other.html#gone", "gone.html"]
    assert elsewhere(pages[page].loaded) == ["https://fonts.example/x.css", "//cdn/x.js"]


def test_every_public_name_has_its_entry(site, pages):
    anchors = pages[site / "reference" / "api.html"].anchors
    assert {f"cmiei_hooks.{name}" for name in cmiei_hooks.__all__} <= anchors


def test_the_files_outside_of_the_docs_are_pages_and_so_is_linked_source(site):
    for name in ("index", "changelog", "contributing", "examples"):
        assert (site / f"{name}.html").is_file()
    assert "def influence_of_linear" in re.sub(
        r"<[^>]*>", "", (site / "source/cmiei_hooks/counterfactual/linear.py.html").read_text()
    )
