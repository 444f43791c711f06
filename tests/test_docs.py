"""Links of the documentation lead somewhere, and its table of rooms is the order of the imports."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"""(?:\]\(|\b(?:src|srcset|href)=")([^)\s"]+)""")


def prose(text: str) -> str:
    """The text without code."""
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a text."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", outside, re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken(text: str, page: Path) -> list[str]:
    """The links of a page that lead to no file or no heading of this project."""
    wrong = []
    for link in LINK.findall(prose(text)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        inside = file.is_file() and file.is_relative_to(ROOT)
        if not inside or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_or_a_heading(page):
    text = page.read_text(encoding="utf-8")
    assert broken(text, page) == []


@pytest.mark.negative_control
def test_a_link_to_nothing_would_be_seen():
    good = "[a](README.md#does-it-help) [b](docs/heads.md) [c](https://example.org/x)"
    bad = ["docs/gone.md", "README.md#gone", "#gone", "docs/gone.svg"]
    text = good + "".join(f"[x]({link})" for link in bad[:-1]) + f'<img src="{bad[-1]}">'
    assert broken(text, ROOT / "README.md") == bad


def test_the_navigation_of_the_site_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[len(OUTSIDE) :]}
    others = {"index.md", "changelog.md", "contributing.md", "examples.md"}
    named = re.findall(r": (\S+\.md)$", text, re.M)
    assert sorted(named) == sorted(pages | others)


def test_the_table_of_rooms_has_the_order_of_the_imports():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*/__init__\.py\).*$", text.partition("## One training call")[0], re.M)
    table = [re.findall(r"\[(\w+)\]\(\.\./cmiei_hooks/\1/__init__\.py\)", row) for row in rows]
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    layers = config["importlinter:contract:rooms"]["layers"].split("\n")
    floors = [re.findall(r"\w+", layer) for layer in layers if layer]
    folders = {path.parent.name for path in (ROOT / "cmiei_hooks").glob("*/__init__.py")}
    assert table == [floor for floor in floors if set(floor) <= folders]
    assert {room for floor in table for room in floor} == folders
