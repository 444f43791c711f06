"""The lines that people read, to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cmiei_hooks import Config, LogRecord


def test_the_lines(start, figures, golden):
    golden(start.text())
    golden(replace(start, config=Config(relative=True)).text())
    golden(replace(start, config=Config(preset="selfpaced", sigma=0.5)).text())
    golden(replace(start, config=Config(preset="selfpaced", p_max=0.0)).text())
    golden(replace(start, config=Config(warmup_steps=200, names=["r", "n", "t"])).text())
    golden(replace(start, head="a -> b", splits=(0, ["rgb", 2], [[0, 4], [8, 12]])).text())
    golden(LogRecord("disabled", config=Config(), head="", names=(), splits=()).text())
    golden(figures.text())
    golden(replace(start, config=Config(p_max=0.0, warmup_epochs=3)).text())
    golden(replace(start, config=Config(sample_level=False, p_max=0.0)).text())
    golden(replace(start, config=Config(selection="soft", warmup_steps=10)).text())
    golden(replace(figures, epoch=None).text())
    golden(replace(figures, event="epoch").text())
    golden(replace(figures, event="epoch", epoch=None).text())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"end_epoch": 90}, "END_EPOCH 90"),
        ({"end_step": 800, "warmup_steps": 9}, "END_STEP 800"),
        ({"measure": "js"}, "MEASURE js"),
        ({"drop": "mean"}, "DROP mean"),
        ({"sync": True}, "SYNC True"),
        ({"inplace": True}, "INPLACE True"),
    ],
)
def test_settings_that_are_not_the_usual_ones_are_in_the_first_line(start, settings, word):
    assert word in replace(start, config=Config(**settings)).text().split(" | ")
    assert word.split()[0] not in start.text()
