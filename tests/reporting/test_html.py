from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from sample_report import HOSTILE, sample

from cmiei_hooks.reporting.formatting import DASH
from cmiei_hooks.reporting.html import to_html

VOID = {"meta", "br", "hr", "img", "input", "link"}
OPTIONAL = {
    "null": "Grey band: chance",
    "histograms": "Distribution of the influence",
    "shapley": "Shapley",
    "interactions": "Interactions",
    "accuracy": "Accuracy without",
    "accuracy_alone": "with it alone",
    "baselines": "stand-in",
    "agreement": "How far they agree",
    "what_if": "What if",
    "suggestion": "Suggested",
    "strata": "Groups of samples",
    "trend": "Over the epochs",
    "checkpoint": "What the checkpoint gave",
    "environment": "How to get these figures again",
}


class Page(HTMLParser):
    """Reads a page as a browser does: its tags, its text, and its tables as rows of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("table", "tr"):  # an empty row stands between two tables
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def row(self, *start: str) -> list[str]:
        """The one row that begins with these cells."""
        (found,) = [row for row in self.rows if row[: len(start)] == list(start)]
        return found

    def table(self, *head: str) -> dict[str, list[str]]:
        """The rows under the one header that begins with these cells."""
        (at,) = [i for i, row in enumerate(self.rows) if row[: len(head)] == list(head)]
        width = len(self.rows[at])
        found = {}
        for row in self.rows[at + 1 :]:
            if not row:
                break
            assert len(row) == width
            found[row[0]] = row[1:]
        return found


def figures(node, path=()):
    """Every number of the report with the way to it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from figures(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from figures(value, (*path, i))
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield path, node


def left_out_on_purpose(path, report) -> bool:
    first = path[0]
    if first == "what_if":
        return report["what_if"][path[1]]["P_MAX"] != 0.5
    if first == "strata":
        return path[2] >= 15
    return first in ("histograms", "schema_version")


def exactly(figure: dict, form: str) -> str:
    mean, low, high = (format(figure[key], form) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def test_every_figure_of_the_report_is_on_the_page():
    report = sample()
    page = Page(to_html(report)).text
    for path, value in figures(report):
        forms = {f"{value:.4f}", f"{value:.1%}", f"{value:.2%}", f"{value:g}", f"{value:,}"}
        forms |= {f"{value:.3f}", f"{value:.0%}"}
        shown = any(form in page for form in forms)
        assert shown or left_out_on_purpose(path, report), (path, value)


def test_the_figures_stand_where_they_belong():
    report = sample()
    page = Page(to_html(report))
    one = {n: exactly(f, ".4f") for n, f in report["influence"].items()}
    null = {n: exactly(f, ".4f") for n, f in report["null"].items()}
    influence = page.table("modality", "width")
    assert influence["r"] == ["512", one["r"], null["r"], "0.002"]
    assert influence["t"] == ["512", one["t"], null["t"], "0.822"]
    assert page.table("modality", "share") == {
        **{n: [exactly(f, ".1%")] for n, f in report["dominance"].items()},
        "triggered": [exactly(report["triggered"], ".1%")],
    }
    shapley = page.table("modality", "Shapley value (nats)", "of the accuracy")
    assert shapley["n"] == [
        exactly(report["shapley"]["n"], ".4f"),
        exactly(report["shapley_accuracy"]["n"], ".2%"),
    ]
    assert shapley["all together"][0] == exactly(report["shapley_total"], ".4f")
    pair = page.table("pair", "nats", "of the accuracy")["n with t"]
    assert pair == [
        exactly(report["interactions"][2], ".4f"),
        exactly(report["interactions_accuracy"][2], ".2%"),
    ]
    accuracy = page.table("modality", "without it", "with it alone")
    assert accuracy["all modalities"] == [exactly(report["accuracy"], ".2%")] * 2
    assert accuracy["n"] == [
        exactly(report["accuracy_without"]["n"], ".2%"),
        exactly(report["accuracy_alone"]["n"], ".2%"),
    ]
    assert page.table("stand-in")["permuted"] == [
        exactly(f, ".4f") for f in report["baselines"]["permuted"].values()
    ]
    assert page.row("zero and mean")[1:] == [
        exactly(report["agreement"][0]["same_dominant"], ".1%"),
        "0.9317",
    ]
    assert page.row("epoch_30.pth")[-1] == DASH
    assert page.row("epoch_10.pth")[-1] == "81.00%"
    first = report["strata"]["class"][0]
    assert page.table("class")["0"] == [
        "12",
        "0.4700",
        *(f"{v:.4f}" for v in first["influence"].values()),
        *(f"{v:.1%}" for v in first["dominance"].values()),
    ]


def test_the_heat_map_is_that_of_the_configured_cap_and_marks_both_cells():
    report = sample()
    for cell in report["what_if"]:
        cell["triggered"] = cell["ABS_THR"] + cell["REL_THR"] / 10 + cell["P_MAX"] / 50
    html = to_html(report)
    page = Page(html)
    heat = page.table("ABS_THR", "REL_THR 1")
    assert list(heat) == ["0", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2"]
    assert heat["0.1"] == ["21.0%", "22.0%", "23.5%", "26.0%", "31.0%"]
    assert heat["0.03"][2] == "16.5%configured"
    assert heat["0.05"][3] == "21.0%suggested"
    assert html.count("marked") == 2 + 1  # two cells and a rule of the style sheet
    cap = page.table("P_MAX", "triggered", "substituted")
    assert list(cap) == ["0.1", "0.25", "0.5", "1"]
    assert cap["0.1"][:2] == ["15.7%", "10.0%"]


def test_without_a_configured_cap_the_heat_map_is_that_of_the_largest():
    report = sample()
    del report["environment"]["config"]["P_MAX"]
    assert "at P_MAX 1." in to_html(report)


def test_a_long_list_of_groups_is_cut_and_says_so():
    page = Page(to_html(sample()))
    assert len(page.table("class")) == 15
    assert "And 156 more, in report.json." in page.text
    assert len(page.table("camera")) == 4


def test_the_summary_says_it_in_words():
    text = Page(to_html(sample())).text
    assert "r is dominant for 57.1% [54.3%, 60.0%] of 3,000 samples" in text
    assert "Its mean influence is 0.1877 [0.1689, 0.2065] nats, against n 0.1104, t 0.0782." in text
    assert "That is clearly more than the 0.0815" in text
    assert "Accuracy is 98.47%, and 91.47% without r." in text
    assert "the 95% interval (percentile bootstrap, 1000 draws over samples)" in text
    report = sample()
    report["null"]["r"]["p"] = 0.2
    report["dominance"]["t"]["mean"] = 0.99
    text = Page(to_html(report)).text
    assert "t is dominant for 99.0%" in text
    assert "Accuracy is 98.47%, and 95.81% without t." in text
    assert "not clearly more than the 0.1015" in text


def test_a_partial_report_says_so_before_anything_else():
    def alarms(report):
        page = to_html(report)
        first = page.index('class="lead"')
        return re.findall(r'class="loud"[^>]*>([^<]*)', page[:first])

    report = sample()
    assert [line[:9] for line in alarms(report)] == ["2 samples"]
    report |= {"partial": True, "non_finite": 0}
    assert [line[:22] for line in alarms(report)] == ["This report is partial"]


@pytest.mark.parametrize("key", OPTIONAL)
def test_a_missing_part_is_left_out(key):
    assert OPTIONAL[key] in Page(to_html(sample())).text
    for gone in (lambda r: r.pop(key), lambda r: r.update({key: None})):
        report = sample()
        gone(report)
        assert OPTIONAL[key] not in Page(to_html(report)).text.replace("without its", "")


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_an_unknown_figure_is_a_dash(nothing):
    report = json.loads(json.dumps(sample()))

    def forget(node):
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(value, (dict, list)):
                forget(value)
            elif isinstance(value, float) and key not in ("ABS_THR", "REL_THR", "P_MAX"):
                node[key] = nothing

    forget(report)
    page = Page(to_html(report))
    assert page.table("modality", "width")["r"] == ["512", DASH, DASH, DASH]
    assert page.table("modality", "share")["n"] == [DASH]
    assert "No sample could be measured." in page.text
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    assert len(page.rows) == len(Page(to_html(sample())).rows)


def test_almost_nothing_is_enough():
    page = Page(to_html({"head": "h", "names": ["a", "b"], "partial": True, "n_samples": None}))
    assert "This report is partial" in page.text
    assert "No sample could be measured." in page.text


def documents():
    hostile = sample(HOSTILE)
    hostile["head"] = hostile["unit"] = hostile["environment"]["command"] = HOSTILE[0]
    hostile["strata"] = {HOSTILE[1]: [{"value": HOSTILE[0], "n": 1}]}
    hostile["suggestion"]["reason"] = hostile["checkpoint"]["path"] = HOSTILE[0]
    hostile["checkpoint"]["missing"] = list(HOSTILE)
    hostile["trend"][0]["checkpoint"] = '" onload="alert(1)'
    return {"plain": sample(), "hostile": hostile, "one": sample(("only",))}


@pytest.mark.parametrize("report", documents().values(), ids=documents())
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(report):
    page = to_html(report)
    page.encode("utf-8")
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))  # svg included
    tags = Page(page).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "img", "iframe", "object", "b"})
    for _, attrs in tags:
        assert not {key for key in attrs if key.startswith("on") or key in ("src", "srcset")}
        assert attrs.get("href", "#").startswith("#")
    assert "url(" not in page
    assert "@import" not in page
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for _, a in tags if "href" in a} <= set(ids)


def test_hostile_names_are_shown_as_they_are():
    page = Page(to_html(documents()["hostile"]))
    influence = page.table("modality", "width")
    assert [len(name) for name in influence] == [len(name) for name in HOSTILE]
    assert list(influence)[:1] == [HOSTILE[0]]
    assert list(influence)[1] == HOSTILE[1].replace("\n", " ")
    assert list(influence)[2] == "x" * 500
    assert list(influence)[3] == "Wärme 熱 \ufffd\ufffd\ufffd"


def test_every_picture_says_its_figures():
    page = to_html(sample())
    labels = [a["aria-label"] for tag, a in Page(page).tags if tag == "svg" and "role" in a]
    assert len(labels) == 11
    assert labels[0] == (
        "Mean influence: r 0.1877 [0.1689, 0.2065]; n 0.1104 [0.0994, 0.1215]; "
        "t 0.0782 [0.0704, 0.0860]"
    )
    assert labels[-2].startswith("Mean influence of 6 checkpoints: r 0.0563, 0.0751")
    assert all(re.search(r"\d", label) for label in labels)


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[float], b: list[float]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_colours_have_contrast_in_both_modes():
    page = to_html(sample())
    modes = re.findall(r":root \{([^}]*)\}", page)
    assert len(modes) == 2
    for mode in modes:
        colours = {}
        for name, code in re.findall(r"--(\w+(?:-\w+)?): ([^;]+);", mode):
            if code.startswith("#"):
                digits = "".join(2 * c for c in code[1:]) if len(code) == 4 else code[1:]
                colours[name] = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
            else:
                colours[name] = [int(c) / 255 for c in code.split(",")]
        page_, ink = colours["page"], colours["ink"]
        deepest = [0.5 * h + 0.5 * p for h, p in zip(colours["heat"], page_, strict=True)]
        assert contrast(ink, page_) > 7
        assert contrast(ink, deepest) > 4.5
        assert contrast(ink, colours["loud"]) > 7
        assert contrast(colours["muted"], page_) > 4.5
        assert contrast(colours["muted"], colours["soft"]) > 4.5
        assert contrast(colours["link"], page_) > 4.5
        for i in range(6):
            assert contrast(colours[f"c{i}"], page_) > 3
