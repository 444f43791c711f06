"""The picture of two audits shows their values, and the pictures are small and in their place."""

from __future__ import annotations

import re
import struct
from xml.etree import ElementTree

import pytest
from helpers import ROOT

from tools.pictures.comparison import LEFT, RIGHT, comparison

IMAGES = ROOT / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}


def report(accuracy: float, without: tuple[float, float], influence: tuple[float, float]) -> dict:
    names = ["a<b", "c"]
    return {
        "names": names,
        "n_samples": 719,
        "unit": "nats",
        "accuracy": interval(accuracy),
        "accuracy_without": dict(zip(names, map(interval, without), strict=True)),
        "influence": dict(zip(names, map(interval, influence), strict=True)),
    }


def test_marks_are_where_their_values_are_on_the_axis():
    plain = report(0.97, (0.72, 0.9), (0.6, 0.1))
    equalised = report(0.96, (0.85, 0.91), (0.3, 0.2))
    root = ElementTree.fromstring(comparison(plain, equalised))
    circles = [float(mark.get("cx")) for mark in root.iter(f"{SVG}circle")][1:]  # the legend's
    squares = [float(m.get("x")) + 4.5 for m in root.iter(f"{SVG}rect") if m.get("class")][1:]

    def on_axis(values: list[float], low: float, high: float) -> list[float]:
        return [LEFT + (RIGHT - LEFT) * (v - low) / (high - low) for v in values]

    for marks, accuracies, influences in (
        (circles, [0.97, 0.72, 0.9], [0.6, 0.1]),
        (squares, [0.96, 0.85, 0.91], [0.3, 0.2]),
    ):
        assert marks[:3] == pytest.approx(on_axis(accuracies, 0.70, 1.0), abs=0.1)
        assert marks[3:] == pytest.approx(on_axis(influences, 0.0, 0.62), abs=0.1)
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert "without a<b" in said
    assert "72.0 → 85.0" in said
    assert "0.600 → 0.300" in said


def test_the_picture_is_readable_on_dark_pages_and_loads_nothing():
    picture = (IMAGES / "demo.svg").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in picture
    assert re.findall(r"(?:href|src)=|url\(", picture) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_screenshots_are_small(scheme):
    content = (IMAGES / f"report-{scheme}.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000
    width, _ = struct.unpack(">II", content[16:24])
    assert width >= 800
