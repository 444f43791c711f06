"""Two audits as a plot: accuracy and influence, plain and with C-MIEI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

__all__ = ["comparison"]

Report = Mapping[str, Any]
"""The content of a report.json."""
WIDTH, LEFT, RIGHT, ROW = 600, 150, 455, 34
"""The picture, where the axis begins and ends, and the height of a row."""
STYLE = """
svg { --page: #fff; --ink: #1b1f24; --muted: #57606a; --rule: #d0d7de; --plain: #c65102;
  --equal: #0072b2; font: 15px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --page: #14181d; --ink: #e8ebee; --muted: #a3adb8;
  --rule: #3a424b; --plain: #f2955c; --equal: #56b4e9; } }
text { fill: var(--ink); } .muted { fill: var(--muted); font-size: 13px; }
.title { font-weight: 600; } .grid { stroke: var(--rule); }
.plain { fill: var(--page); stroke: var(--plain); stroke-width: 2.5; }
.equal { fill: var(--equal); stroke: var(--equal); }
"""


@dataclass(frozen=True)
class Row:
    """One value of both models, with its intervals."""

    name: str
    plain: Mapping[str, float]
    equal: Mapping[str, float]


def comparison(plain: Report, equalised: Report) -> str:
    """A standalone SVG that is legible on light and on dark pages.

    Args:
        plain: ``report.json`` of the model that was trained plainly, with accuracy.
        equalised: that of the model that was trained with C-MIEI.
    """
    both = plain, equalised
    names = plain["names"]
    accuracy = [Row("all views", *(report["accuracy"] for report in both))]
    accuracy += [
        Row(f"without {name}", *(report["accuracy_without"][name] for report in both))
        for name in names
    ]
    influence = [Row(name, *(report["influence"][name] for report in both)) for name in names]
    height = 50 + 2 * 68 + ROW * (len(accuracy) + len(influence))
    said = "; ".join(
        f"{row.name} {row.plain['mean']:.3f} plain, {row.equal['mean']:.3f} with C-MIEI"
        for row in accuracy + influence
    )
    size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
    label = {"role": "img", "aria-label": f"Accuracy and influence: {said}"}
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **label})
    SubElement(root, "style").text = STYLE
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "var(--page)"})
    _legend(root)
    title = f"Accuracy on {plain['n_samples']} test samples, %"
    low = min(value["low"] for row in accuracy for value in (row.plain, row.equal))
    top = _panel(root, 50, title, accuracy, (math.floor(100 * low) / 100, 1.0), 100)
    most = max(value["high"] for row in influence for value in (row.plain, row.equal))
    _panel(root, top, f"Influence of each view, {plain['unit']}", influence, (0.0, most), 1)
    return tostring(root, encoding="unicode") + "\n"


def _legend(root: Element) -> None:
    _circle(root, LEFT + 6, 24)
    _text(root, LEFT + 18, 29, "trained plainly")
    _square(root, LEFT + 166, 24)
    _text(root, LEFT + 178, 29, "with C-MIEI")
    _text(root, WIDTH - 16, 29, "lines: 95 % intervals", class_="muted", text_anchor="end")


def _panel(
    root: Element,
    top: float,
    title: str,
    rows: Sequence[Row],
    bounds: tuple[float, float],
    scale: float,
) -> float:
    """Draw one axis with its rows; returns where the next one begins."""
    low, high = bounds

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - low) / (high - low)

    _text(root, 16, top + 20, title, class_="title")
    bottom = top + 34 + ROW * len(rows)
    step = _step(high - low)
    for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        at = x(k * step)
        _line(root, (at, top + 34), (at, bottom), "var(--rule)")
        tick = f"{k * step * scale:g}"
        _text(root, at, bottom + 16, tick, class_="muted", text_anchor="middle")
    for i, row in enumerate(rows):
        y = top + 34 + ROW * (i + 0.5)
        _text(root, 16, y + 5, row.name)
        for value, colour, shift in ((row.plain, "--plain", -5), (row.equal, "--equal", 5)):
            ends = (x(value["low"]), y + shift), (x(value["high"]), y + shift)
            _line(root, *ends, f"var({colour})", width=1.5)
        _circle(root, x(row.plain["mean"]), y - 5)
        _square(root, x(row.equal["mean"]), y + 5)
        values = (f"{v['mean'] * scale:.{1 if scale > 1 else 3}f}" for v in (row.plain, row.equal))
        _text(root, WIDTH - 16, y + 5, " → ".join(values), text_anchor="end")
    return bottom + 34


def _step(span: float) -> float:
    """A round number of which the span has two to five."""
    power: float = 10.0 ** math.floor(math.log10(span / 2))
    return next(k * power for k in (5, 2, 1) if k * power <= span / 2)


def _text(root: Element, x: float, y: float, content: str, **attributes: str) -> None:
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    SubElement(root, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **named}).text = content


def _line(
    root: Element,
    start: tuple[float, float],
    end: tuple[float, float],
    stroke: str,
    width: float = 1,
) -> None:
    (x1, y1), (x2, y2) = start, end
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    SubElement(root, "line", {**ends, "stroke": stroke, "stroke-width": f"{width:g}"})


def _circle(root: Element, x: float, y: float) -> None:
    SubElement(root, "circle", {"class": "plain", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "5"})


def _square(root: Element, x: float, y: float) -> None:
    corner = {"x": f"{x - 4.5:.1f}", "y": f"{y - 4.5:.1f}", "width": "9", "height": "9"}
    SubElement(root, "rect", {"class": "equal", **corner})
