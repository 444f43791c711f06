"""Plots as inline SVG: pure functions from figures to a string.

Across, everything is in percent and text is not scaled, so a plot is as legible on a telephone as
on a wide screen. Colours are classes of the style sheet; nothing is said by colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .formatting import clean, finite

__all__ = ["NEUTRAL", "Row", "dots", "histogram", "lines", "marker"]

_SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-4.5 -4.5h9v9h-9z",
    "M0 -6L6 5H-6z",
    "M0 -6L6 0L0 6L-6 0z",
)
_DASHES = ("none", "7 4", "2 4", "10 3 2 3")
_COLOURS = 6

NEUTRAL = -1
"""The colour of what is no modality."""


@dataclass(frozen=True)
class Row:
    """One line of a dot plot."""

    name: str
    text: str
    """The figure as it is written beside the name."""
    mean: object
    low: object = None
    high: object = None
    band: tuple[object, object] | None = None
    """Drawn behind it, to compare with."""
    colour: int = 0


def text(value: object, longest: int = 10**6) -> str:
    """Escaped, for XML and for attributes in double quotes."""
    line = clean(value)
    return html.escape(line if len(line) <= longest else line[: longest - 1] + "…")


def _colour(kind: int) -> str:
    return "cn" if kind == NEUTRAL else f"c{kind % _COLOURS}"


def _svg(label: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{text(label)}" width="100%" height="{height:g}" '
        f'overflow="visible">{"".join(body)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers in the range."""
    rough = (high - low) / 4
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[object], from_zero: bool = True) -> tuple[float, float]:
    """From the smallest value, or zero, to the largest."""
    known = [v for v in map(finite, values) if v is not None]
    if from_zero or not known:
        known.append(0.0)
    low, high = min(known), max(known)
    return low, high if high - low > 1e-12 * abs(high) else low + (abs(low) or 1.0)


def _across(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return 100 * min(max((value - low) / (high - low), 0.0), 1.0)


def _axis(bounds: tuple[float, float], bottom: float, show: Callable[[float], str]) -> str:
    parts = []
    for tick in _ticks(*bounds):
        x = _across(tick, bounds)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        parts.append(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{bottom:g}"/>')
        parts.append(
            f'<text class="muted" x="{x:.2f}%" y="{bottom + 15:g}" text-anchor="{anchor}">'
            f"{text(show(tick))}</text>"
        )
    return "".join(parts)


def marker(x: str, y: float, kind: int) -> str:
    """A mark whose shape and colour tell the modality."""
    shape = _SHAPES[0 if kind == NEUTRAL else kind % len(_SHAPES)]
    mark = f'<path class="{_colour(kind)} mark" d="{shape}"/>'
    return f'<svg x="{x}" y="{y:g}" overflow="visible">{mark}</svg>'


def dots(
    label: str,
    rows: Sequence[Row],
    show: Callable[[float], str] = "{:g}".format,
    bounds: tuple[float, float] | None = None,
) -> str:
    """A bar from zero with a dot at the mean, whiskers for the interval, and a band behind."""
    bounds = bounds or _range([v for r in rows for v in (r.mean, r.low, r.high, *(r.band or ()))])
    zero, parts = _across(0.0, bounds), []
    for i, row in enumerate(rows):
        top = 46 * i
        middle = top + 32
        drawn = [
            f"<title>{text(row.name)}: {text(row.text)}</title>",
            f'<text x="0" y="{top + 16}">{text(row.name, 22)}</text>',
            f'<text x="100%" y="{top + 16}" text-anchor="end">{text(row.text)}</text>',
        ]
        low, high = (finite(v) for v in row.band or (None, None))
        if low is not None and high is not None:
            left, right = _across(low, bounds), _across(high, bounds)
            drawn.append(
                f'<rect class="band" x="{left:.2f}%" y="{middle - 9}" '
                f'width="{max(right - left, 0.3):.2f}%" height="18"/>'
            )
        mean, low, high = (finite(v) for v in (row.mean, row.low, row.high))
        if mean is not None:
            x = _across(mean, bounds)
            drawn.append(
                f'<rect class="{_colour(row.colour)} bar" x="{min(zero, x):.2f}%" y="{middle - 4}" '
                f'width="{abs(x - zero):.2f}%" height="8"/>'
            )
            if low is not None and high is not None:
                a, b = _across(low, bounds), _across(high, bounds)
                for x1, x2, y1, y2 in ((a, b, 0, 0), (a, a, -7, 7), (b, b, -7, 7)):
                    drawn.append(
                        f'<line class="whisker" x1="{x1:.2f}%" x2="{x2:.2f}%" '
                        f'y1="{middle + y1}" y2="{middle + y2}"/>'
                    )
            drawn.append(marker(f"{x:.2f}%", middle, row.colour))
        parts.append(f"<g>{''.join(drawn)}</g>")
    bottom = 46.0 * len(rows) + 2
    return _svg(label, bottom + 20, [_axis(bounds, bottom, show), *parts])


def histogram(label: str, edges: Sequence[float], counts: Sequence[float], colour: int) -> str:
    """One bar for each bin, all of one width, and the edges between them.

    The first bin is below the first edge and the last one from the last edge on: the edges may grow
    by a factor, so that a long tail and what is near zero can both be seen.
    """
    width, tallest, parts = 100 / max(len(counts), 1), max([*counts, 1]), []
    for bar, count in enumerate(counts):
        height = 84 * count / tallest
        parts.append(
            f'<rect class="{_colour(colour)}" x="{bar * width + 0.4:.2f}%" y="{90 - height:.1f}" '
            f'width="{width - 0.8:.2f}%" height="{height:.1f}"/>'
        )
    parts.append('<line class="grid" x1="0" x2="100%" y1="90" y2="90"/>')
    for tick, edge in enumerate(edges):
        if tick % 2 == 0:  # every other one: they would not stand beside each other
            parts.append(
                f'<text class="muted" x="{(tick + 1) * width:.2f}%" y="104" '
                f'text-anchor="middle">{text(f"{edge:g}")}</text>'
            )
    return _svg(label, 110, parts)


def lines(
    label: str,
    places: Sequence[str],
    series: Sequence[Sequence[object]],
    show: Callable[[float], str] = "{:g}".format,
    of_modalities: bool = True,
) -> str:
    """One line for each series, told apart by marks and dashes too; unknown values are gaps.

    What is no modality has no colour, and an axis that need not begin at zero.
    """
    bounds, height = _range([v for values in series for v in values], of_modalities), 180
    parts = []
    for tick in _ticks(*bounds):
        y = height - height * _across(tick, bounds) / 100
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="muted" x="-8" y="{y + 4:.1f}" text-anchor="end">'
            f"{text(show(tick))}</text>"
        )
    last = len(places) - 1
    for k, values in enumerate(series):
        kind = k if of_modalities else NEUTRAL
        points = [
            (2 + 96 * i / last if last else 50.0, height - height * _across(v, bounds) / 100)
            if (v := finite(value)) is not None
            else None
            for i, value in enumerate(values)
        ]
        for a, b in pairwise(points):
            if a and b:
                parts.append(
                    f'<line class="{_colour(kind)} line" stroke-dasharray="{_DASHES[k % 4]}" '
                    f'x1="{a[0]:.2f}%" y1="{a[1]:.1f}" x2="{b[0]:.2f}%" y2="{b[1]:.1f}"/>'
                )
        parts += [marker(f"{p[0]:.2f}%", p[1], kind) for p in points if p]
    ends = [(0, "start"), (last, "end")] if last else [(0, "middle")]
    for i, anchor in ends:
        x = {"start": 0, "middle": 50, "end": 100}[anchor]
        parts.append(
            f'<text class="muted" x="{x}%" y="{height + 22}" text-anchor="{anchor}">'
            f"{text(places[i], 18)}</text>"
        )
    return _svg(label, height + 28, parts)
