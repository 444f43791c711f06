from __future__ import annotations

import html
import math
import re

import pytest
from markdown_it import MarkdownIt
from sample_report import HOSTILE, sample

from cmiei_hooks.reporting.formatting import DASH, clean
from cmiei_hooks.reporting.markdown import to_markdown


def rows(text: str) -> list[list[str]]:
    """The cells of every table as GitHub splits them: at bars that are not escaped."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def row(text: str, first: str) -> list[str]:
    return next(cells[1:] for cells in rows(text) if cells[0] == first)


def exactly(figure: dict, form: str) -> str:
    mean, low, high = (format(figure[key], form) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def test_the_figures_stand_where_they_belong():
    report = sample()
    text = to_markdown(report)
    assert row(text, "modality") == [
        "influence (nats)",
        "by chance",
        "dominant",
        "Shapley value",
        "Shapley, accuracy",
        "accuracy without",
        "accuracy alone",
    ]
    assert row(text, "n") == [
        exactly(report["influence"]["n"], ".4f"),
        exactly(report["null"]["n"], ".4f") + ", p 0.412",
        exactly(report["dominance"]["n"], ".1%"),
        exactly(report["shapley"]["n"], ".4f"),
        exactly(report["shapley_accuracy"]["n"], ".2%"),
        exactly(report["accuracy_without"]["n"], ".2%"),
        exactly(report["accuracy_alone"]["n"], ".2%"),
    ]
    complete = exactly(report["accuracy"], ".2%")
    total = exactly(report["shapley_total"], ".4f")
    assert row(text, "all") == ["", "", "", total, "", complete, complete]
    assert row(text, "r with t") == [
        exactly(report["interactions"][1], ".4f"),
        exactly(report["interactions_accuracy"][1], ".2%"),
    ]
    assert row(text, "mean")[0] == exactly(report["baselines"]["mean"]["r"], ".4f")
    assert row(text, "ABS_THR 0.03") == ["59.5%", "57.1%", "53.8%", "48.7%", "39.9%"]
    assert "Configured: ABS_THR 0.03, REL_THR 1.25, P_MAX 0.5.\n" in text
    assert "Suggested: ABS_THR 0.05, REL_THR 1.5, P_MAX 0.25. About a third" in text
    assert row(text, "4") == ["16", "0.4620", "0.3060 (90.0%)", "0.1510 (5.0%)", "0.0993 (5.0%)"]
    assert "And 166 more, in report.json." in text
    assert row(text, "epoch_30.pth")[-1] == DASH
    assert "(rank correlation 0.9317)" in text
    assert f"```sh\n{report['environment']['command']}\n```" in text
    assert "r is dominant for 57.1% [54.3%, 60.0%] of 3,000 samples" in text


def test_tables_have_as_many_cells_in_every_row():
    for names in (("r", "n", "t"), HOSTILE):
        for block in to_markdown(sample(names)).split("\n\n"):
            table = rows(block)
            assert len({len(cells) for cells in table}) <= 1
            assert not table or set(table[1]) <= {"---", "---:"}


def test_hostile_names_are_shown_as_they_are():
    report = sample(HOSTILE)
    report["environment"]["command"] = "echo ```` </details>"
    text = to_markdown(report)
    text.encode("utf-8")
    assert row(text, '&lt;script&gt;alert("x")&lt;/script&gt;')
    assert row(text, r"a\|b \`c\` [d\](http:&#8203;//e) @" + "\u200bf &amp; \\*g\\* 'h' \\# i")
    assert row(text, "Wärme 熱 \ufffd\ufffd\ufffd")
    before, after = text.split("`````sh\necho ```` </details>\n`````")
    assert "<script" not in before + after
    assert (before + after).count("<details>") == after.count("</details>") == 1


STARTS = (
    "# a",
    "- a",
    "+ a",
    "1. a",
    "2) a",
    "> a",
    "---",
    "***",
    "===",
    "_a_",
    "__a__",
    "![a](b)",
)


@pytest.mark.parametrize("name", [*HOSTILE, *STARTS, "~~a~~", "[^1]", "[a][b]", "[a]: b", "a\\"])
def test_a_name_is_text_and_never_markup(name):
    report = {**sample((name, "b")), "environment": None, "checkpoint": None}
    rendered = (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(to_markdown(report))
    )
    text = html.unescape(re.sub(r"<[^>]*>", "", rendered))
    assert f"\n{clean(name)} is dominant for" in text.replace("\u200b", "")
    known = "blockquote|h2|p|strong|table|tbody|td|th|thead|tr"
    assert not re.findall(rf"<(?!/|(?:{known})\b)[^>]*>", rendered)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("null", "by chance"),
        ("shapley", "Shapley value"),
        ("accuracy_alone", "accuracy alone"),
        ("interactions", "| interaction"),
        ("baselines", "stand-in"),
        ("agreement", "agree on"),
        ("what_if", "ABS_THR 0.2"),
        ("suggestion", "Suggested"),
        ("strata", "most unequal"),
        ("trend", "epoch_10.pth"),
        ("environment", "python 3.11.7"),
        ("checkpoint", "sha256"),
    ],
)
def test_a_missing_part_is_left_out(key, words):
    report = sample()
    assert words in to_markdown(report)
    del report[key]
    assert words not in to_markdown(report)
    assert words not in to_markdown({**report, key: None})


def test_partial_and_left_out_samples_come_first():
    text = to_markdown({**sample(), "partial": True})
    assert text.split("\n\n")[1].startswith("> **This report is partial")
    assert text.split("\n\n")[2].startswith("> **2 samples were left out")


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_an_unknown_figure_is_a_dash(nothing):
    report = sample()
    report["influence"]["n"] = dict.fromkeys(("mean", "low", "high"), nothing)
    report["dominance"]["n"] = None
    assert row(to_markdown(report), "n")[0] == DASH
    assert row(to_markdown(report), "n")[2] == DASH
    assert not re.search(r"\bnan\b", to_markdown(report))


def test_almost_nothing_is_enough():
    text = to_markdown({"head": "h", "names": ["a"], "n_samples": None})
    assert "No sample could be measured." in text
