"""The page: it is whole, it says what was found, and nothing in it is taken for markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from media import Page, in_terminal, text_of

from cmiei_hooks.reporting import to_html, visible
from cmiei_hooks.validation.report_sections import in_sections


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


def page_of(given: dict) -> Page:
    page = to_html(in_sections(given))
    ET.fromstring(page.removeprefix("<!DOCTYPE html>"))
    return Page(page)


def test_the_text_in_the_terminal(golden):
    golden(in_terminal(in_sections(report())))


def test_the_text_in_html(golden):
    golden(text_of(to_html(in_sections(report()))))


def test_a_failed_check_is_loud(golden):
    assert not in_sections(report()).warnings
    (warning,) = in_sections(report(passed=False)).warnings
    golden(warning)
    loud = [attrs for _, attrs in page_of(report(passed=False)).tags if attrs.get("role") == "note"]
    assert len(loud) == 1


@pytest.mark.parametrize("word", ["<b>&'\"</b>", "\x00\u202e", "accuracy " * 30])
def test_names_are_text(word):
    page = page_of(report(word))
    assert "b" not in {tag for tag, _ in page.tags}
    assert visible(word).strip() in page.text


def test_seeds_without_a_number_and_less_that_is_better_are_said():
    given = report("loss")
    given["better"]["loss"] = -1
    given["comparisons"][0] |= {"low": None, "high": None, "n": 3, "verdict": "not known"}
    assert page_of(given).tables[0][1:] == [
        [
            "method against plain",
            "loss (less is better)",
            "not known 2 of 5 seeds gave no number",
            "+0.0100",
        ],
        [
            "method against random",
            "loss (less is better)",
            "no difference seen",
            "+0.0010 [-0.0040, +0.0060]",
        ],
    ]


def test_a_setting_that_changes_no_run_is_marked():
    given = report()
    given["metrics"]["SIGMA 0.1"] = given["metrics"]["method"]
    assert "SIGMA 0.1 (changes nothing)" in page_of(given).text
    assert "changes nothing" not in page_of(report()).text
