"""Sinks for files, curves and the logging module."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import pytest
from torch.utils.tensorboard import SummaryWriter

from cmiei_hooks import JSONLines, Scalars, StandardLogging
from cmiei_hooks.errors import ConfigError


def test_json_lines(tmp_path, start, figures):
    path = tmp_path / "deep" / "run.jsonl"
    sink = JSONLines(path)
    sink(start)
    sink(figures)
    sink(replace(figures, metrics={"CI_r": math.nan}))
    first, second, empty = map(json.loads, path.read_text().splitlines())
    assert first["event"] == "start"
    assert first["K"] == 3
    assert first["head"] == first["HEAD"] == "classifier"
    assert first["SPLITS"] == [512, 512, 512]
    where = {"event": "figures", "head": "classifier", "epoch": 6, "step": 150}
    assert second == where | figures.metrics
    assert empty["CI_r"] is None


def test_json_lines_stay_in_one_file_when_the_training_changes_the_directory(
    tmp_path, monkeypatch, start, figures
):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    sink = JSONLines("run.jsonl")
    sink(start)
    monkeypatch.chdir(tmp_path / "other")
    sink(figures)
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2


def test_scalars_go_to_anything_with_add_scalar(start, figures, golden):
    class Writer:
        def __init__(self) -> None:
            self.seen = []

        def add_scalar(self, tag, value, step):
            self.seen.append((tag, value, step))

    writer = Writer()
    sink = Scalars(writer)
    sink(start)
    assert writer.seen == []
    sink(figures)
    assert writer.seen == [(f"C_MIEI/{k}", v, 150) for k, v in figures.metrics.items()]
    with pytest.raises(ConfigError) as error:
        Scalars(object())
    golden(error.value)


def test_the_real_tensorboard(tmp_path, figures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with SummaryWriter(str(tmp_path)) as writer:
        Scalars(writer)(figures)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {f"C_MIEI/{key}" for key in figures.metrics}
    (event,) = events.Scalars("C_MIEI/CI_r")
    assert (event.step, event.value) == (150, pytest.approx(0.41234))


def test_the_logging_module(caplog, start, figures):
    with caplog.at_level(logging.INFO, logger="cmiei_hooks"):
        StandardLogging()(figures)
        StandardLogging(logging.getLogger("cmiei_hooks.mine"))(start)
    assert [(r.name, r.message) for r in caplog.records] == [
        ("cmiei_hooks", figures.text()),
        ("cmiei_hooks.mine", start.text()),
    ]
