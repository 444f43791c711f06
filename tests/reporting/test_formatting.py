"""Numbers and names as text."""

from __future__ import annotations

import math
import os

import pytest

from cmiei_hooks.reporting import (
    DASH,
    counted,
    estimate,
    finite,
    number,
    p_value,
    percent,
    visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("acc [train]", "acc [train]"),
        ("W\u00e4rme \u71b1 \U0001f600", "W\u00e4rme \u71b1 \U0001f600"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        (os.fsdecode(b"caf\xe9.pth"), r"caf\udce9.pth"),
        ("\ufeff\u2028\x9b", r"\ufeff\u2028\x9b"),
    ],
)
def test_hidden_characters_are_visible(text, shown):
    assert visible(text) == shown
    shown.encode("utf-8")


def test_things_are_counted():
    assert counted(0, "sample") == "0 samples"
    assert counted(1, "sample") == "1 sample"
    assert counted(1, "identity") == "1 identity"
    assert counted(3000, "identity") == "3,000 identities"


def test_numbers():
    assert [number(v) for v in (0.18774, -0.0, 3e-6, 12345.6, 0)] == [
        "0.1877",
        "0.0000",
        "3.0e-06",
        "1.235e+04",
        "0.0000",
    ]
    assert [p_value(v) for v in (0.0004, 0.05, None)] == ["< 0.001", "0.050", DASH]
    assert [percent(v) for v in (0.5714, -1e-9, -0.001)] == ["57.1%", "0.0%", "-0.1%"]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf, True, "inf"])
def test_what_is_not_known_is_a_dash(unknown):
    assert finite(unknown) is None
    assert number(unknown) == percent(unknown) == estimate(unknown, 0.1, 0.2) == DASH
    assert estimate(0.5, unknown, 0.7) == "0.5000"
    assert estimate(0.5, 0.25, 0.75, percent) == "50.0% [25.0%, 75.0%]"
