"""Run the demo and make the pictures of it: ``python -m tools.pictures``.

``docs/images/demo.svg`` compares its two models. ``report-light.png`` and ``report-dark.png`` are
screenshots of the report of the plain one; they need Chromium and are left as they are without it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cmiei_hooks.cli import main as cmiei

from .comparison import comparison

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SCHEMES = {"dark": 0, "light": 1}
"""How Chromium numbers the colour schemes that a reader may prefer."""
SIZE = 880, 760


def main() -> int:
    """Make the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--demo", type=Path, metavar="DIR", help="output of a demo that was run")
    parser.add_argument("--chromium", default="chromium", metavar="COMMAND")
    args = parser.parse_args()
    demo = args.demo or Path("runs/demo")
    if args.demo is None and (code := cmiei(["demo", "--output", str(demo)])):
        return code
    reports: list[dict[str, Any]] = [
        json.loads((demo / name / "report.json").read_text(encoding="utf-8"))
        for name in ("plain", "equalised")
    ]
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "demo.svg").write_text(comparison(*reports), encoding="utf-8")
    print("docs/images/demo.svg written")
    if shutil.which(args.chromium) is None:
        print(f"no screenshots: there is no {args.chromium}", file=sys.stderr)
        return 0
    for scheme in SCHEMES:
        screenshot(args.chromium, demo / "plain" / "report.html", scheme)
        print(f"docs/images/report-{scheme}.png written")
    return 0


def screenshot(chromium: str, page: Path, scheme: str) -> None:
    """Write what a reader who prefers this colour scheme sees first of a page."""
    picture = IMAGES / f"report-{scheme}.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={SIZE[0]},{SIZE[1]}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--screenshot={picture}",
    ]
    command = [chromium, *options, page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
