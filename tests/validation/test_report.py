"""The page: it is whole, it says what was found, and nothing in it is taken for markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from cmiei_hooks.validation.report import to_html


def difference(metric: str, mean: float, half: float, verdict: str, first="method", second="plain"):
    figures = {"mean": mean, "low": mean - half, "high": mean + half, "n": 5}
    return {"first": first, "second": second, "metric": metric, **figures, "verdict": verdict}


def report(metric: str = "accuracy", passed: bool = True) -> dict:
    curve = [
        {
            "epoch": e,
            "C_MIEI_Ratio": 0.1 * e,
            "CI_r": 0.3,
            "CI_n": None,
            "Hist_r": 0.6,
            "Hist_n": 0.4,
        }
        for e in range(3)
    ]
    return {
        "train": "lab.train:main",
        "overrides": {},
        "settings": {},
        "config": {"K": 3},
        "seeds": [0, 1, 2, 3, 4],
        "arms": {"plain": {"kind": "plain", "settings": {}, "seconds": 1.0}},
        "checks": [
            {"name": "inert equals the plain run", "passed": passed, "seen": "what was seen"}
        ],
        "better": {metric: 1, "CI_r in training": 0},
        "metrics": {"plain": {metric: [0.9, None]}, "method": {metric: [0.91, 0.92]}},
        "comparisons": [
            difference(metric, 0.01, 0.005, "better"),
            difference("CI_r in training", -0.1, 0.05, "lower"),
            difference(metric, 0.001, 0.005, "no difference seen", second="random"),
        ],
        "sensitivity": [
            difference(metric, 0.01, 0.005, "better"),
            difference(metric, -0.02, 0.005, "worse", first="SIGMA 0.1"),
        ],
        "epochs": {"inert": curve, "method": curve},
        "environment": {"versions": {"torch": "2"}, "git": None, "command": "cmiei validate --x"},
    }


def body(page: str) -> ET.Element:
    return ET.fromstring(page[page.index("<body>") : page.index("</body>") + len("</body>")])


def test_the_page_says_what_was_found():
    page = body(to_html(report()))
    said = " ".join(page.itertext())
    for expected in (
        "better: +0.0100 [+0.0050, +0.0150]",
        "no difference seen: +0.0010",
        "-0.0200 [-0.0250, -0.0150]",
        "SIGMA 0.1",
        "cmiei validate --x",
        "inert equals the plain run",
        "0.9150",
    ):
        assert expected in said
    assert "class" not in {n.get("role") for n in page.iter()}
    headings = [h.text for h in page.iter("h2")]
    assert headings == [
        "Checks",
        "Paired differences",
        "Over the epochs",
        "Sensitivity",
        "All figures",
        "How to get these figures again",
    ]


def test_a_failed_check_is_loud():
    assert "not so" not in to_html(report())
    assert '<p class="loud" role="note">inert equals the plain run: not so.' in to_html(
        report(passed=False)
    )


@pytest.mark.parametrize("word", ["<b>&'\"</b>", "\x00\u202e", "accuracy " * 30])
def test_names_are_text(word):
    page = body(to_html(report(word)))
    assert not list(page.iter("b"))


def test_parts_that_are_missing_are_left_out():
    page = to_html({"train": "a:b"})
    assert "Does C-MIEI help a:b?" in page
    body(page)


def test_seeds_without_a_number_and_less_that_is_better_are_said():
    given = report("loss")
    given["better"]["loss"] = -1
    given["comparisons"][0] |= {"low": None, "high": None, "n": 3, "verdict": "not known"}
    said = " ".join(body(to_html(given)).itertext())
    assert "loss (less is better)" in said
    assert "not known (2 of 5 seeds gave no number): +0.0100" in said


def test_a_setting_that_changes_no_run_is_marked():
    given = report()
    given["metrics"]["SIGMA 0.1"] = given["metrics"]["method"]
    assert "SIGMA 0.1 (changes nothing)" in " ".join(body(to_html(given)).itertext())
    assert "changes nothing" not in to_html(report())
