"""Plots as inline SVG.

Horizontal positions are in percent and text is not scaled, so a plot is as legible on a telephone
as on a wide screen. Colours are classes of the style sheet, and nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, tostring

from .formatting import finite, number, percent, visible
from .sections import NEUTRAL, Dot, DotPlot, Histogram, LinePlot, MarkPlot, Plot

__all__ = ["Bounds", "axis_of", "legend_mark", "svg"]

_SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-4.5 -4.5h9v9h-9z",
    "M0 -6L6 5H-6z",
    "M0 -6L6 0L0 6L-6 0z",
)
_DASHES = ("none", "7 4", "2 4", "10 3 2 3")
_COLOURS = 6
_ROW = 40
"""Height of a row of a dot plot."""
_MARGIN = 0.03
"""Room beyond the outermost whiskers, so that they are seen whole."""

Bounds = tuple[float, float]


def svg(plot: Plot) -> str:
    """The plot as an ``<svg>`` element whose label says all values that are drawn."""
    kinds = {DotPlot: _dots, Histogram: _histogram, LinePlot: _lines, MarkPlot: _marks}
    drawn = kinds[type(plot)](plot)  # type: ignore[operator]  # each has its own type of plot
    return tostring(drawn, encoding="unicode")


def legend_mark(colour: int) -> str:
    """The mark of a series, to stand beside its name."""
    root = Element("svg", {"width": "16", "height": "16", "aria-hidden": "true"})
    _marker(root, "8", 8, colour)
    return tostring(root, encoding="unicode")


def _root(label: str, height: float) -> Element:
    shown = {"width": "100%", "height": f"{height:g}", "overflow": "visible"}
    return Element("svg", {"role": "img", "aria-label": visible(label), **shown})


def _add(parent: Element, tag: str, content: str = "", **attributes: object) -> Element:
    """A child element; ``class_`` and ``text_anchor`` are written ``class`` and ``text-anchor``."""
    named = {key.rstrip("_").replace("_", "-"): str(v) for key, v in attributes.items()}
    child = SubElement(parent, tag, named)
    child.text = visible(content) or None
    return child


def _class(colour: int) -> str:
    return "cn" if colour == NEUTRAL else f"c{colour % _COLOURS}"


def _short(name: str, longest: int) -> str:
    line = visible(name)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _marker(parent: Element, x: str, y: float, colour: int) -> None:
    """A mark whose shape and colour tell the series."""
    shape = _SHAPES[0 if colour == NEUTRAL else colour % len(_SHAPES)]
    origin = _add(parent, "svg", x=x, y=f"{y:g}", overflow="visible")
    _add(origin, "path", class_=f"{_class(colour)} mark", d=shape)


def _ticks(bounds: Bounds) -> list[float]:
    """Three to six round numbers in the range."""
    low, high = bounds
    rough = (high - low) / 4
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * 0.9)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_of(values: Sequence[float | None], from_zero: bool = True) -> Bounds:
    """The ends of an axis on which all values are seen, with a margin but at zero.

    Example:
        >>> axis_of([0.25, 1.0])
        (0.0, 1.03)
    """
    known = [v for v in map(finite, values) if v is not None]
    if from_zero or not known:
        known.append(0.0)
    low, high = min(known), max(known)
    if high - low <= 1e-12 * abs(high):
        high = low + (abs(low) or 1.0)
    margin = _MARGIN * (high - low)
    return low - margin * (low != 0), high + margin * (high != 0)


def _across(value: float, bounds: Bounds) -> float:
    low, high = bounds
    return 100 * min(max((value - low) / (high - low), 0.0), 1.0)


def _dots(plot: DotPlot) -> Element:
    rows = plot.rows
    known = [v for r in rows for v in (r.mean, r.low, r.high, *r.band)]
    bounds = plot.bounds or ((0.0, 1.0) if plot.share else axis_of(known))
    root = _root(
        f"{plot.label}: {'; '.join(f'{r.name} {r.text}' for r in rows)}", _ROW * len(rows) + 22
    )
    _axis(root, bounds, _ROW * len(rows) + 2, "{:.0%}".format if plot.share else "{:g}".format)
    for i, row in enumerate(rows):
        _dot(_add(root, "g"), row, _ROW * i, bounds)
    return root


def _axis(root: Element, bounds: Bounds, bottom: float, show: Callable[[float], str]) -> None:
    for tick in _ticks(bounds):
        at = _across(tick, bounds)
        x, anchor = f"{at:.2f}%", "start" if at < 3 else "end" if at > 97 else "middle"
        zero = " zero" if abs(tick) < 1e-9 * (bounds[1] - bounds[0]) and bounds[0] < 0 else ""
        _add(root, "line", class_=f"grid{zero}", x1=x, x2=x, y1=0, y2=bottom)
        _add(root, "text", show(tick), class_="muted", x=x, y=bottom + 15, text_anchor=anchor)


def _dot(group: Element, row: Dot, top: int, bounds: Bounds) -> None:
    middle = top + 29
    _add(group, "title", f"{row.name}: {row.text}")
    _add(group, "text", _short(row.name, 22), x=0, y=top + 14)
    _add(group, "text", row.text, x="100%", y=top + 14, text_anchor="end")

    def bar(kind: str, start: float, end: float, height: int, least: float = 0.0) -> None:
        left, right = sorted((_across(start, bounds), _across(end, bounds)))
        size = {"x": f"{left:.2f}%", "width": f"{max(right - left, least):.2f}%"}
        _add(group, "rect", class_=kind, y=middle - height // 2, height=height, **size)

    low, high = map(finite, row.band)
    if low is not None and high is not None:
        bar("band", low, high, 18, least=0.3)
    mean, low, high = map(finite, (row.mean, row.low, row.high))
    if mean is None:
        return
    bar(f"{_class(row.colour)} bar", 0.0, mean, 8)
    if low is not None and high is not None:
        a, b = (f"{_across(value, bounds):.2f}%" for value in (low, high))
        for x1, x2, half in ((a, b, 0), (a, a, 7), (b, b, 7)):
            y1, y2 = middle - half, middle + half
            _add(group, "line", class_="whisker", x1=x1, x2=x2, y1=y1, y2=y2)
    _marker(group, f"{_across(mean, bounds):.2f}%", middle, row.colour)


def _marks(plot: MarkPlot) -> Element:
    show = percent if plot.share else number
    between = " → " if len(plot.series) == 2 else " · "
    texts = {name: between.join(map(show, values)) for name, values in plot.rows.items()}
    label = "; ".join(f"{name} {text}" for name, text in texts.items())
    bottom = _ROW * len(plot.rows) + 2
    root = _root(f"{plot.label} ({', '.join(plot.series)}): {label}", bottom + 20)
    bounds = axis_of([v for values in plot.rows.values() for v in values], from_zero=False)
    tick = (lambda v: f"{100 * v:.4g}%") if plot.share else "{:.4g}".format
    _axis(root, bounds, bottom, tick)
    for i, (name, values) in enumerate(plot.rows.items()):
        group, middle = _add(root, "g"), _ROW * i + 32
        _add(group, "title", f"{name}: {texts[name]}")
        _add(group, "text", _short(name, 22), x=0, y=_ROW * i + 16)
        _add(group, "text", texts[name], x="100%", y=_ROW * i + 16, text_anchor="end")
        known = [
            (k, _across(v, bounds)) for k, v in enumerate(map(finite, values)) if v is not None
        ]
        if known:
            low, high = (f"{end(at for _, at in known):.2f}%" for end in (min, max))
            _add(group, "line", class_="whisker", x1=low, x2=high, y1=middle, y2=middle)
        for k, at in known:
            _marker(group, f"{at:.2f}%", middle, k)
    return root


def _histogram(plot: Histogram) -> Element:
    """The edges may grow by a factor, so that a long tail and what is near zero can be seen."""
    total, tallest = sum(plot.counts), max([*plot.counts, 1])
    root = _root(f"{plot.label}: {total:,} samples, at most {tallest:,} in one bar", 110)
    width = 100 / max(len(plot.counts), 1)
    for i, count in enumerate(plot.counts):
        height = 84 * count / tallest
        corner = {"x": f"{i * width + 0.4:.2f}%", "y": f"{90 - height:.1f}"}
        size = {"width": f"{width - 0.8:.2f}%", "height": f"{height:.1f}"}
        _add(root, "rect", class_=_class(plot.colour), **corner, **size)
    _add(root, "line", class_="grid", x1=0, x2="100%", y1=90, y2=90)
    for i, edge in list(enumerate(plot.edges, 1))[::2]:  # there is no room for every label
        x = f"{i * width:.2f}%"
        _add(root, "text", f"{edge:g}", class_="muted", x=x, y=104, text_anchor="middle")
    return root


def _lines(plot: LinePlot) -> Element:
    height, last = 150, len(plot.ticks) - 1
    series = plot.series.items()
    bounds = plot.bounds or axis_of([v for _, values in series for v in values], plot.modalities)
    show = (lambda v: f"{100 * v:.4g}%") if plot.share else "{:g}".format
    said = ", ".join(f"{name} {number(values[-1])}" for name, values in series if values)
    root = _root(f"{plot.label}; {plot.ticks[-1]}: {said}", height + 28)

    def up(value: float) -> float:
        return height - height * _across(value, bounds) / 100

    for tick in _ticks(bounds):
        y = f"{up(tick):.1f}"
        _add(root, "line", class_="grid", x1=0, x2="100%", y1=y, y2=y)
        at = f"{up(tick) + 4:.1f}"
        _add(root, "text", show(tick), class_="muted", x=-8, y=at, text_anchor="end")
    for k, (_, values) in enumerate(series):
        colour = k if plot.modalities else NEUTRAL
        known = list(map(finite, values))
        points = [
            None if v is None else (f"{2 + 96 * i / last if last else 50:.2f}%", up(v))
            for i, v in enumerate(known)
        ]
        for a, b in pairwise(points):
            if a and b:
                ends = {"x1": a[0], "y1": f"{a[1]:.1f}", "x2": b[0], "y2": f"{b[1]:.1f}"}
                dashes = _DASHES[k % len(_DASHES)]
                _add(root, "line", class_=f"{_class(colour)} line", stroke_dasharray=dashes, **ends)
        for point in filter(None, points):
            _marker(root, *point, colour)
    for i, x, anchor in (
        ((0, "0%", "start"), (last, "100%", "end")) if last else ((0, "50%", "middle"),)
    ):
        name = _short(plot.ticks[i], 18)
        _add(root, "text", name, class_="muted", x=x, y=height + 22, text_anchor=anchor)
    return root
