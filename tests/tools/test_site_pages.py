"""Links of the repository become links of the site."""

from __future__ import annotations

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")

from tools.site_pages import linked, page_of, with_site_links


@pytest.mark.parametrize(
    ("path", "link", "target"),
    [
        ("docs/heads.md", "cost.md#memory", "cost.md#memory"),
        ("docs/heads.md", "cost.svg", "cost.svg"),
        ("docs/guides/demo-reid.md", "../heads.md", "../heads.md"),
        ("docs/heads.md", "../README.md#license", "index.md#license"),
        ("docs/heads.md", "../CHANGELOG.md", "changelog.md"),
        ("docs/heads.md", "../cmiei_hooks/functional.py", "source/cmiei_hooks/functional.py.md"),
        ("docs/guides/demo-reid.md", "../../LICENSE", "../source/LICENSE.md"),
        ("README.md", "docs/heads.md#the-arguments", "heads.md#the-arguments"),
        ("README.md", "LICENSE", "source/LICENSE.md"),
        ("README.md", ".github/workflows/ci.yml", "source/github/workflows/ci.yml.md"),
        ("examples/README.md", "two_views.py", "source/examples/two_views.py.md"),
        ("docs/heads.md", "#the-arguments", "#the-arguments"),
        ("docs/heads.md", "https://example.org/README.md", "https://example.org/README.md"),
        ("docs/heads.md", "gone.md", "gone.md"),  # mkdocs says that it is broken
    ],
)
def test_a_link_leads_to_the_page_of_its_file(path, link, target):
    assert with_site_links(f"see [x]({link}).", path) == f"see [x]({target})."


def test_pictures_in_html_are_found_too():
    text = '<img src="docs/cost.svg" alt="">'
    assert with_site_links(text, "README.md") == '<img src="cost.svg" alt="">'


def test_code_is_left_as_it_is():
    text = "`[x](../README.md)`\n\n```md\n[x](../README.md)\n```\n"
    assert with_site_links(text, "docs/heads.md") == text
    assert linked(text, "docs/heads.md") == []


def test_a_page_is_known_by_its_file():
    assert page_of("docs/guides/demo-reid.md") == "guides/demo-reid.md"
    assert page_of("examples/README.md") == "examples.md"
