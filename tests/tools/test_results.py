"""The tables of the results page, from reports whose differences are known."""

import json

import pytest
from scipy.stats import t

pytest.importorskip("matplotlib")

from tools import results

PLAIN = [0.70, 0.72, 0.74, 0.71]
GAINS = {"method": [0.010, 0.020, 0.010, 0.020], "selfpaced": [0.05, 0.051, 0.052, 0.049]}
WORSE = [-0.010, -0.004, -0.010, -0.004]


def report(**gains):
    arms = {"plain": [0.0] * 4, "inert": [0.0] * 4, **gains}
    seen = {"CI_a in training": [0.3] * 4, "Hist_a in training": [0.6] * 4}
    return {
        "metrics": {
            arm: {
                "mAP": [p + g for p, g in zip(PLAIN, gain, strict=True)],
                "worst mAP missing": [p + 2 * g for p, g in zip(PLAIN, gain, strict=True)],
                **seen,
            }
            for arm, gain in arms.items()
        },
        "sensitivity": [],
    }


def test_a_difference_is_in_points_with_the_half_width_of_its_interval():
    found = results.difference({"one": report(**GAINS)}, "method", "plain", 0)
    assert found.mean == pytest.approx(1.5)
    error = 0.5773502691896258 / 2  # the standard deviation of 1, 2, 1, 2, over the root of 4
    assert found.detectable == pytest.approx(t.ppf(0.975, 3) * error)


def test_the_mean_over_sets_is_taken_seed_by_seed():
    both = {"one": report(**GAINS), "two": report(method=WORSE, selfpaced=GAINS["selfpaced"])}
    found = results.difference(both, "method", "plain", 1)
    assert (found.mean, found.n) == (pytest.approx(0.8), 4)


def test_bold_is_an_interval_without_zero_and_the_dagger_is_what_holm_leaves():
    unsure = [0.005, 0.02, 0.01, 0.02]  # p = 0.035 by itself, 0.07 of two
    gains = {"method": unsure, "stopped": unsure, "selfpaced": GAINS["selfpaced"]}
    table = results.sets_tables({"one": report(**gains)}).splitlines()
    assert table[4:7] == [
        "| method | **+1.38 ± 1.19** |",
        "| stopped | **+1.38 ± 1.19** |",
        "| selfpaced | **+5.05 ± 0.21**† |",
    ]


def test_harmed_sets_are_counted():
    both = {"one": report(**GAINS), "two": report(method=WORSE, selfpaced=GAINS["selfpaced"])}
    table = results.means_table({"one": both["one"]}, both).splitlines()
    assert "| +1.5 (0) |" in table[2]
    assert table[2].endswith("| -0.7 (1) |")


def test_only_what_is_between_the_markers_of_the_page_changes(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.json").write_text(json.dumps(report(**GAINS)))
    page = "# Results\n<!-- results: means -->\nold\n<!-- end of results -->\nkept\n"
    (tmp_path / "results.md").write_text(page)
    monkeypatch.setattr(results, "DOCS", tmp_path)
    monkeypatch.setattr(results, "PLOTTED", {"method": "D", "selfpaced": "o"})
    results.main(["--tasks", f"one={tmp_path}/run", "--further", f"two={tmp_path}/run"])
    written = (tmp_path / "results.md").read_text()
    assert "old" not in written
    assert written.startswith("# Results\n<!-- results: means -->\n\n| arm |")
    assert written.endswith("<!-- end of results -->\nkept\n")
    assert "selfpaced" in (tmp_path / "images" / "results.svg").read_text()
