"""The table of steps as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmiei_hooks.reporting import Dot, DotPlot, style, svg

__all__ = ["plot"]

_WIDTH, _MARGIN = 720, 16


def plot(timings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A standalone SVG: what the hook adds to a step, and other ways, in forwards of the head.

    Args:
        timings: by head and by what was timed, ``median_s``, ``quartiles_s`` and ``ratio``. The
            first entry of a head is its forward.
    """
    rows = []
    for head, timed in timings.items():
        (_, forward), *others = timed.items()
        ways = [(name, way) for name, way in others if "training" not in name]
        rows += [
            Dot(
                name,
                f"{head}: {way['ratio']:.2f}",
                way["ratio"],
                way["quartiles_s"][0] / forward["median_s"],
                way["quartiles_s"][1] / forward["median_s"],
                colour=colour,
            )
            for colour, (name, way) in enumerate(ways)
        ]
    label = "Time over that of one forward of the head, with quartiles"
    height = 46 * len(rows) + 80
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif">'
        f'<style>{style()}</style><rect width="100%" height="100%" fill="var(--page)"/>'
        f'<text x="{_MARGIN}" y="26">{label}</text>'
        f'<svg x="{_MARGIN}" y="40" width="{_WIDTH - 2 * _MARGIN}" height="{height - 40}">'
        f"{svg(DotPlot(label, rows))}</svg></svg>\n"
    )
