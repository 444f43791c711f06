"""Relatives of faults that were found in the field: one row for each situation."""

from __future__ import annotations

from pathlib import Path

import pytest
import situations_of_heads
import situations_of_state  # noqa: F401  # all three fill the table
import situations_of_steps  # noqa: F401  # the same
from situations import SITUATIONS, quietly


@pytest.mark.situation
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_comes_out_right(name):
    assert quietly(SITUATIONS[name].run) == SITUATIONS[name].right


@pytest.mark.negative_control
def test_a_hidden_layer_would_not_be_noticed_without_the_check(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.training.notices.Notices.check_output", lambda *_: None)
    assert quietly(lambda: situations_of_heads.hidden_behind("one layer")) == ()


def test_the_page_has_the_counts():
    page = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text(encoding="utf-8")
    kinds = {situation.kind for situation in SITUATIONS.values()}
    assert f"{len(SITUATIONS)} situations of {len(kinds)} kinds" in page
