"""The two kinds of records that the tests of this room log."""

from __future__ import annotations

import pytest

from cmiei_hooks import Config, LogRecord

WHERE = {"head": "classifier", "names": ("r", "n", "t"), "splits": (512, 512, 512)}


@pytest.fixture
def start() -> LogRecord:
    return LogRecord("start", config=Config(enabled=True), **WHERE)


@pytest.fixture
def figures() -> LogRecord:
    metrics = {
        "C_MIEI_Ratio": 0.3125,
        "CI_r": 0.41234,
        "CI_n": 0.1021,
        "CI_t": 0.000031,
        "Hist_r": 0.71,
        "Hist_n": 0.2,
        "Hist_t": 0.09,
    }
    config = Config(enabled=True)
    return LogRecord("figures", config=config, step=150, epoch=6, metrics=metrics, **WHERE)
