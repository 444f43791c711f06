"""Golden files: what a person reads, kept as text beside the tests.

``golden(text)`` compares a text with the one that was kept for this test. All texts of a test
module are in one file, ``tests/golden/<folder>/<module>.md``. ``pytest --renew-golden -n 0 FILES``
writes the files of these modules again; the change is then read in the diff.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden"
_HEADING = re.compile(r"^## ([^\n]+)\n\n````text\n(.*?)\n?````\n", re.M | re.S)
_renewed: dict[Path, dict[str, str]] = {}


def _read(path: Path) -> dict[str, str]:
    return dict(_HEADING.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_renewed() -> None:
    """Write what this run has seen; tests that are gone leave their file."""
    for path, texts in _renewed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "\n".join(f"## {name}\n\n````text\n{text}\n````\n" for name, text in texts.items())
        path.write_text(body, encoding="utf-8")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Compare a text, or the message of an error, with what was kept for this test."""
    module = Path(request.node.path).relative_to(FOLDER.parent).with_suffix(".md")
    path = FOLDER / module
    calls = 0

    def check(value: object) -> None:
        nonlocal calls
        calls += 1
        name = request.node.name + (f" ({calls})" if calls > 1 else "")
        text = "\n".join(line.rstrip() for line in str(value).strip("\n").split("\n"))
        if request.config.getoption("--renew-golden"):
            _renewed.setdefault(path, {})[name] = text
        else:
            assert text == _read(path).get(name, "nothing kept: run pytest --renew-golden -n 0")

    return check
