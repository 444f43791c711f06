"""The page: it answers its title, it is whole, and nothing in it is taken for markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from media import Page, in_terminal, text_of

from cmiei_hooks.reporting import DASH, Grid, svg, to_html, to_markdown, visible
from cmiei_hooks.validation.report_sections import in_sections


def difference(
    metric: str,
    mean: float,
    half: float,
    verdict: str,
    first="method",
    second="plain",
    holm: str | None = None,
):
    found = {"mean": mean, "low": mean - half, "high": mean + half, "n": 5, "detectable": half}
    found |= {"p": 0.012, "p_holm": 0.036, "verdict": verdict, "verdict_holm": holm or verdict}
    return {"first": first, "second": second, "metric": metric, **found}


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
        "environment": {
            "date": "2026-11-26T15:04:05+01:00",
            "versions": {"torch": "2"},
            "git": None,
            "command": "cmiei validate --x",
        },
    }


def two_metrics() -> dict:
    """Better in one metric, but not after Holm's correction; another one of another unit."""
    given = report()
    given["better"]["loss"] = -1
    given["comparisons"] = [
        difference("accuracy", 0.01, 0.005, "better", holm="no difference seen"),
        difference("loss", -3.0, 12.0, "no difference seen"),
        difference("CI_r in training", -0.1, 0.05, "lower"),
        difference("accuracy", 0.001, 0.005, "no difference seen", second="random"),
        difference("loss", 30.0, 12.0, "worse", second="random"),
        difference("accuracy", 0.009, 0.03, "no difference seen", first="random"),
    ]
    return given


def page_of(given: dict) -> Page:
    page = to_html(in_sections(given))
    ET.fromstring(page.removeprefix("<!DOCTYPE html>"))
    return Page(page)


def test_the_text_in_the_terminal(golden):
    golden(in_terminal(in_sections(two_metrics())))


def test_the_text_in_markdown(golden):
    golden(to_markdown(in_sections(two_metrics())))


def test_the_text_in_html(golden):
    golden(text_of(to_html(in_sections(two_metrics()))))


def verdicts(**by_metric: str) -> dict:
    """A report of the method with these verdicts against plain training."""
    given = report()
    given["better"] = dict.fromkeys(by_metric, 1)
    means = {"better": 0.02, "worse": -0.03}
    given["comparisons"] = [
        difference(metric, means.get(verdict, 0.001), 0.005, verdict)
        for metric, verdict in by_metric.items()
    ]
    return given


@pytest.mark.parametrize(
    "found",
    [
        {"acc": "better"},
        {"acc": "better", "worst": "better", "loss": "no difference seen"},
        {"acc": "worse", "worst": "no difference seen"},
        {"acc": "worse", "worst": "better"},
        {"acc": "no difference seen", "worst": "no difference seen", "loss": "not known"},
        {"acc": "not known"},
    ],
    ids=lambda found: ", ".join(found.values()),
)
def test_the_title_is_answered_in_one_sentence(found, golden):
    golden(in_sections(verdicts(**found)).conclusion)


def test_without_the_method_the_answer_names_the_arm(golden):
    given = report()
    given["comparisons"] = [difference("accuracy", 0.01, 0.005, "better", first="stopped")]
    golden(in_sections(given).conclusion)


def test_a_report_without_c_miei_says_so(golden):
    golden(in_sections(report() | {"comparisons": []}).conclusion)


def test_what_could_have_been_seen_is_a_caveat_only_where_nothing_was_seen():
    assert any("could have been seen" in line for line in in_sections(two_metrics()).caveats)
    assert not any("could have been seen" in line for line in in_sections(report()).caveats)


def test_each_metric_has_an_axis_of_its_own_that_holds_all_whiskers():
    (grid,) = (
        part
        for section in in_sections(two_metrics()).sections
        if section.title == "All differences"
        for part in section.parts
        if isinstance(part, Grid)
    )
    assert [plot.label for plot in grid.plots] == ["accuracy", "loss (less is better)"]
    assert [len(plot.rows) for plot in grid.plots] == [3, 2]
    for plot in grid.plots:
        whiskers = [
            float(line.get("x1").rstrip("%"))
            for line in ET.fromstring(svg(plot)).iter("line")
            if line.get("class") == "whisker" and line.get("x1") == line.get("x2")
        ]
        assert len(whiskers) == 2 * len(plot.rows)
        assert len(set(whiskers)) == len(whiskers)  # those that are clipped lie on the edge
        assert all(0 < x < 100 for x in whiskers)


def test_curves_that_are_compared_have_one_scale():
    given = report()
    higher = [{**epoch, "CI_r": 3.0} for epoch in given["epochs"]["method"]]
    given["epochs"] = {"inert": given["epochs"]["inert"], "method": higher}
    (epochs,) = (s for s in in_sections(given).sections if s.title == "Over the epochs")
    for part in epochs.parts:
        (grid,) = part.parts
        assert len({plot.bounds for plot in grid.plots}) == 1
    (influence,) = (p for p in epochs.parts if p.title.startswith("CI"))
    assert influence.parts[0].plots[0].bounds[1] >= 3.0


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
            "loss (less is better)",
            "not known 2 of 5 seeds gave no number",
            DASH,
            "+0.0100",
            "0.0050",
        ]
    ]


def test_a_setting_that_changes_no_run_is_marked():
    given = report()
    given["metrics"]["SIGMA 0.1"] = given["metrics"]["method"]
    assert "SIGMA 0.1 (changes nothing)" in page_of(given).text
    assert "changes nothing" not in page_of(report()).text


@pytest.mark.parametrize("seeds", [1, 5])
def test_what_is_not_known_has_its_reason(seeds):
    given = report() | {"seeds": list(range(seeds))}
    found = {"low": None, "high": None, "p": None, "p_holm": None, "detectable": None, "n": seeds}
    given["comparisons"] = [difference("accuracy", 0.01, 0.0, "not known") | found]
    given["comparisons"][0]["verdict_holm"] = "not known"
    printed = " ".join(in_terminal(in_sections(given), width=200).split())
    reason = "one seed alone has no interval" if seeds == 1 else "all seeds differ by the same"
    assert f"not known ({reason})" in printed
    given["comparisons"][0]["n"] = seeds - 1
    printed = " ".join(in_terminal(in_sections(given), width=200).split())
    assert f"1 of {seeds} seed{'s' * (seeds > 1)} gave no number" in printed
    assert reason not in printed


def test_seeds_that_do_not_vary_do_not_show_what_could_have_been_seen():
    given = report()
    given["comparisons"] = [difference("accuracy", 0.0, 0.0, "no difference seen")]
    printed = in_terminal(in_sections(given), width=200)
    (row,) = (line for line in printed.splitlines() if "+0.0000 [" in line)
    assert row.rstrip(" \u2502").endswith(DASH)
    assert "could have been seen" not in printed


def test_the_answer_is_yes_only_where_a_difference_is_left_after_holm():
    given = report()
    for holm, answer in (("better", "Yes: "), ("no difference seen", "Perhaps: ")):
        given["comparisons"] = [difference("accuracy", 0.01, 0.005, "better", holm=holm)]
        assert in_sections(given).conclusion.startswith(answer)


def test_a_peer_does_not_answer_whether_c_miei_helps(golden):
    given = report()
    given["arms"]["dropout 45 %"] = {
        "kind": "attached",
        "strategy": "peers:Dropout",
        "seconds": 1.0,
    }
    given["comparisons"] = [difference("accuracy", 0.01, 0.005, "better", first="dropout 45 %")]
    golden(in_sections(given).conclusion)
