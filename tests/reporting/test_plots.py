from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from cmiei_hooks.reporting import DASH, Dot, DotPlot, Histogram, LinePlot, MarkPlot, axis_of, svg


def elements(picture: str, tag: str, kind: str = "") -> list[dict]:
    found = ElementTree.fromstring(picture).iter(tag)
    return [e.attrib for e in found if kind in e.attrib.get("class", "").split() or not kind]


def test_a_dot_plot_is_drawn_to_scale():
    row = Dot("a", "0.5", 0.5, 0.25, 1.0, band=(0.1, 0.2))
    picture = svg(DotPlot("label", [row, Dot("b", DASH, None)], share=True))
    (bar,) = elements(picture, "rect", "bar")
    assert (bar["x"], bar["width"]) == ("0.00%", "50.00%")
    (band,) = elements(picture, "rect", "band")
    assert (band["x"], band["width"]) == ("10.00%", "10.00%")
    whisker, left, right = elements(picture, "line", "whisker")
    assert (whisker["x1"], whisker["x2"]) == ("25.00%", "100.00%")
    assert (left["x1"], right["x1"]) == ("25.00%", "100.00%")
    assert [e["x"] for e in elements(picture, "svg")[1:]] == ["50.00%"]
    below = svg(DotPlot("label", [Dot("a", "", -1.0), Dot("b", "", 3.0)]))
    assert [(e["x"], e["width"]) for e in elements(below, "rect")] == [
        ("2.83%", "23.58%"),  # the axis goes 3% of the range beyond the smallest and largest value
        ("26.42%", "70.75%"),
    ]


def test_a_histogram_has_a_bar_for_each_bin_and_names_the_edges():
    picture = svg(Histogram("label", [0.1, 0.3, 1.0], [2, 8, 4, 0], 0))
    bars = elements(picture, "rect")
    assert [bar["height"] for bar in bars] == ["21.0", "84.0", "42.0", "0.0"]
    assert [float(bar["y"]) + float(bar["height"]) for bar in bars] == [90.0] * 4
    assert [bar["x"] for bar in bars] == ["0.40%", "25.40%", "50.40%", "75.40%"]
    ticks = ElementTree.fromstring(picture).iter("text")
    assert [(e.attrib["x"], e.text) for e in ticks] == [("25.00%", "0.1"), ("75.00%", "1")]


def test_a_line_plot_has_gaps_where_nothing_is_known():
    picture = svg(LinePlot("label", ["a", "b", "c", "d"], {"x": [0.0, 1.0, None, 0.5]}))
    (drawn,) = elements(picture, "line", "line")
    assert (drawn["x1"], drawn["y1"], drawn["x2"], drawn["y2"]) == (
        "2.00%",
        "150.0",
        "34.00%",
        "4.4",
    )
    assert [e["x"] for e in elements(picture, "svg")[1:]] == ["2.00%", "34.00%", "98.00%"]
    assert elements(svg(LinePlot("label", ["a"], {"x": [0.5]})), "svg")[1]["x"] == "50.00%"


def test_a_mark_plot_has_a_mark_for_each_series_on_one_axis():
    rows = {"a": [0.5, 0.7], "b": [0.9, None], "c": [math.nan, None]}
    picture = svg(MarkPlot("label", ["one", "other"], rows, share=True))
    assert [e["x"] for e in elements(picture, "svg")[1:]] == ["2.83%", "50.00%", "97.17%"]
    (across, alone) = elements(picture, "line", "whisker")
    assert (across["x1"], across["x2"]) == ("2.83%", "50.00%")
    assert alone["x1"] == alone["x2"] == "97.17%"
    kinds = [e["class"] for e in elements(picture, "path")]
    assert kinds == ["c0 mark", "c1 mark", "c0 mark"]
    texts = [e.text for e in ElementTree.fromstring(picture).iter("text")]
    assert {"60%", "80%", "50.0% → 70.0%", f"{DASH} → {DASH}"} <= set(texts)
    label = ElementTree.fromstring(picture).attrib["aria-label"]
    assert label.startswith("label (one, other): a 50.0% → 70.0%; b 90.0%")


def test_an_axis_has_room_beyond_what_is_drawn_but_not_beyond_zero():
    assert axis_of([0.25, 1.0]) == pytest.approx((0, 1.03))
    assert axis_of([-1.0, 3.0]) == pytest.approx((-1.12, 3.12))
    assert axis_of([0.5, 0.6], from_zero=False) == pytest.approx((0.497, 0.603))
    assert axis_of([None, math.nan]) == pytest.approx((0, 1.03))
    low, high = axis_of([0.97, 0.97], from_zero=False)
    assert low < 0.97 < high


def test_plots_that_are_compared_can_have_one_axis():
    """The same value is drawn at the same place, whatever else is in its plot."""
    small = [Dot("a", "", 0.1, 0.05, 0.2)]
    large = [*small, Dot("b", "", 1.0, 0.9, 1.1)]
    bounds = axis_of([0.05, 1.1])
    alone, both = (svg(DotPlot("label", rows, bounds=bounds)) for rows in (small, large))
    assert elements(alone, "line", "whisker") == elements(both, "line", "whisker")[:3]
    own = svg(DotPlot("label", small))
    assert elements(own, "line", "whisker") != elements(alone, "line", "whisker")
    line = {"x": [0.1, 0.2]}
    wide, own = (svg(LinePlot("l", ["a", "b"], line, bounds=b)) for b in ((0.0, 1.0), None))
    assert [e["y1"] for e in elements(wide, "line", "line")] == ["135.0"]
    assert elements(own, "line", "line") != elements(wide, "line", "line")


def test_where_values_lie_on_both_sides_of_zero_it_is_marked():
    assert (
        len(elements(svg(DotPlot("l", [Dot("a", "", -1.0), Dot("b", "", 3.0)])), "line", "zero"))
        == 1
    )
    assert not elements(svg(DotPlot("l", [Dot("a", "", 1.0)])), "line", "zero")
