"""The lines that people read, to the letter."""

from __future__ import annotations

from dataclasses import replace

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
