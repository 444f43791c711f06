"""HTML: whole, offline, legible in both modes, and every text shown as it is."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from media import Page, text_of
from sample_report import HOSTILE, report

from cmiei_hooks.reporting import visible
from cmiei_hooks.reporting.html import _template, style, to_html


def test_the_text(golden):
    golden(text_of(to_html(report())))


@pytest.mark.parametrize("word", ["word", *HOSTILE])
def test_it_is_well_formed_and_needs_nothing_from_elsewhere(word):
    page = to_html(report(word))
    page.encode("utf-8")
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))  # the plots included
    tags = Page(page).tags
    assert [tag for tag, _ in tags] == [tag for tag, _ in Page(to_html(report())).tags]
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "img", "iframe", "object", "b"})
    for _, attrs in tags:
        assert not {key for key in attrs if key.startswith("on") or key in ("src", "srcset")}
        assert attrs.get("href", "#").startswith("#")
    assert "url(" not in page
    assert "@import" not in page
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for _, attrs in tags if "href" in attrs} <= set(ids)


@pytest.mark.parametrize("word", HOSTILE)
def test_names_are_shown_as_they_are(word):
    first = Page(to_html(report(word))).tables[0]
    assert first[0][0] == f"head {visible(word)}"
    assert first[1][0] == visible(word)
    assert first[2][1] == f"50% {visible(word)}"


def test_without_escaping_the_attack_would_succeed():
    page = _template(autoescape=False).render(report=report(HOSTILE[0]))
    assert "script" in {tag for tag, _ in Page(page).tags}


def test_what_is_folded_is_seen_by_its_name_alone():
    tags = Page(to_html(report())).tags
    assert [tag for tag, _ in tags].count("details") == 2
    assert not [attrs for tag, attrs in tags if tag == "details" and "open" in attrs]
    assert "<summary>values word</summary>" in to_html(report())
    assert '<summary><h2 id="s4">folded</h2></summary>' in to_html(report())


def test_every_plot_tells_its_values():
    labels = [a["aria-label"] for tag, a in Page(to_html(report())).tags if a.get("role") == "img"]
    assert labels[0] == "word: word word; b word"
    assert labels[1] == "word; b: word \N{EN DASH}, c 0.2000"
    assert labels[2] == "word: 8 samples, at most 5 in one bar"


@pytest.mark.slow
def test_importing_the_package_does_not_import_jinja(python):
    code = "import sys, cmiei_hooks.cli.diagnose, cmiei_hooks.cli.validate, cmiei_hooks.cli.run\n"
    code += "from cmiei_hooks import *; print('jinja2' in sys.modules); "
    code += "cmiei_hooks.reporting.to_html(cmiei_hooks.reporting.Report('', [])); "
    code += "print('jinja2' in sys.modules)"
    done = python.run(["-c", code])
    assert done.stdout.split() == ["False", "True"]


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[float], b: list[float]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_colours_have_contrast_in_both_modes():
    modes = re.findall(r":root \{([^}]*)\}", style())
    assert len(modes) == 2
    for mode in modes:
        colours = {}
        for name, code in re.findall(r"--(\w+(?:-\w+)?): ([^;]+);", mode):
            if code.startswith("#"):
                digits = "".join(2 * c for c in code[1:]) if len(code) == 4 else code[1:]
                colours[name] = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
            else:
                colours[name] = [int(c) / 255 for c in code.split(",")]
        page, ink = colours["page"], colours["ink"]
        deepest = [0.5 * h + 0.5 * p for h, p in zip(colours["heat"], page, strict=True)]
        assert contrast(ink, page) > 7
        assert contrast(ink, deepest) > 4.5
        assert contrast(ink, colours["loud"]) > 7
        assert contrast(colours["muted"], page) > 4.5
        assert contrast(colours["muted"], colours["soft"]) > 4.5
        assert contrast(colours["link"], page) > 4.5
        assert contrast(colours["c1"], page) > 4  # the words of a verdict, in bold
        assert contrast(colours["c2"], page) > 4.5
        for i in range(6):
            assert contrast(colours[f"c{i}"], page) > 3
