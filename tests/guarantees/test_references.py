"""docs/guarantees.md names tests for every guarantee: they exist, and the numbers are theirs."""

from __future__ import annotations

import ast
import importlib
import math
import re
from pathlib import Path

import pytest
import silence
import test_silence_distributed
import torch

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "guarantees.md").read_text(encoding="utf-8")
ROWS = [
    line.split("|")[1:-1]
    for part in TEXT.split("\n## ")
    if re.search(r"^\| \w+ \| tests \|$", part, re.M)
    for line in part.splitlines()
    if line.startswith("|") and not re.match(r"\|---|\| \w+ \| tests \|$", line)
]
FILE = re.compile(r"\[(test_\w+\.py)\]\(([^)]+)\)")


def functions(file: Path) -> set[str]:
    """The names of the tests in a file."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def unknown_tests(shown_by: str) -> list[str]:
    """The files and tests of the right column of a row that do not exist."""
    wrong = []
    for reference in re.split(r"(?=\[test_)", shown_by)[1:]:
        name, path = FILE.match(reference).groups()
        file = (DOCS / path).resolve()
        if file.name != name or not file.is_file():
            wrong.append(path)
            continue
        wrong += set(re.findall(r"`(test_\w+)`", reference)) - functions(file)
    return wrong


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip()[:50] for row in ROWS])
def test_every_guarantee_names_tests_that_exist(row):
    guarantee, shown_by = row
    assert guarantee.strip()
    assert FILE.search(shown_by)
    assert unknown_tests(shown_by) == []


@pytest.mark.negative_control
def test_a_test_or_a_file_that_is_gone_would_be_seen():
    file = "[test_step.py](../tests/training/test_step.py)"
    assert unknown_tests(f"{file} `test_gone`, `test_copies_are_inert`") == ["test_gone"]
    assert unknown_tests(file.replace("training", "gone")) == ["../tests/gone/test_step.py"]


def cells(module: str, function: str) -> int:
    """How many cases a parametrized test has."""
    marks = getattr(importlib.import_module(module), function).pytestmark
    return math.prod(len(list(mark.args[1])) for mark in marks if mark.name == "parametrize")


@pytest.mark.skipif(torch.__version__ < "2.6", reason="FSDP2 and its cells came with torch 2.6")
def test_the_numbers_are_those_of_the_suite():
    stated = re.findall(r"\[(test_\w+)\.py\]\([^)]+\) `(\w+)` \((\d+) cells\)", TEXT)
    assert len(stated) == TEXT.count(" cells)") == 7
    for module, function, number in stated:
        assert cells(module, function) == int(number), function
    steps = silence.LONG, silence.STEPS, test_silence_distributed.STEPS
    assert "{} optimizer steps ({} in the other rows, {} on two ranks)".format(*steps) in TEXT
    assert len(silence.HEADS) == 9
