"""The notebook runs, and what is kept in it is what it shows."""

from __future__ import annotations

import json
import re

import pytest
from helpers import ROOT

from tools.notebook import NOTEBOOK, executed


def shown(notebook: dict) -> list[str]:
    """What the cells print without numbers and dates, and the headings of what they show."""
    lines: list[str] = []
    for output in (output for cell in notebook["cells"] for output in cell.get("outputs", ())):
        text = output.get("text") or output["data"]["text/markdown"]
        kept = [line for line in text if "text" in output or line.startswith("#")]
        lines += [re.sub(r"\d+ [A-Z][a-z]+ \d{4}|[\d.]+", "#", line) for line in kept]  # dates too
    return lines


def test_the_kept_outputs_are_those_of_the_cells(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.chdir(tmp_path)
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    now = executed(kept)
    assert len(shown(now)) > 10
    assert shown(kept) == shown(now), "run python tools/notebook.py"
    assert [cell["source"] for cell in kept["cells"]] == [cell["source"] for cell in now["cells"]]


def test_a_cell_keeps_what_is_printed_and_its_last_expression():
    cells = [
        {"cell_type": "code", "source": ["x = 5"]},
        {"cell_type": "markdown", "source": ["text"]},
        {
            "cell_type": "code",
            "source": ["class A:\n", "    _repr_markdown_ = lambda self: 'a\\nb'"],
        },
        {"cell_type": "code", "source": ["print(x)\n", "A()"]},
    ]
    outputs = [cell.get("outputs") for cell in executed({"cells": cells})["cells"]]
    assert outputs[:3] == [[], None, []]
    printed, result = outputs[3]
    assert printed == {"output_type": "stream", "name": "stdout", "text": ["5\n"]}
    assert result["data"] == {"text/markdown": ["a\n", "b"]}


def test_a_cell_that_raises_is_an_error():
    with pytest.raises(ZeroDivisionError):
        executed({"cells": [{"cell_type": "code", "source": ["1 / 0"]}]})
