"""Sinks for files, curves and the logging module."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from cmiei_hooks import JSONLines, Metrics, Scalars, StandardLogging
from cmiei_hooks.errors import ConfigError


def test_json_lines(tmp_path, start, figures):
    path = tmp_path / "deep" / "run.jsonl"
    sink = JSONLines(path)
    sink(start)
    sink(figures)
    sink(replace(figures, metrics={"CI_r": math.nan}, epoch=None))
    first, second, empty = map(json.loads, path.read_text().splitlines())
    assert first["event"] == "start"
    assert first["K"] == 3
    assert first["head"] == first["HEAD"] == "classifier"
    assert first["SPLITS"] == [512, 512, 512]
    where = {"event": "figures", "head": "classifier", "epoch": 6, "step": 150}
    assert second == where | figures.metrics
    assert (empty["CI_r"], empty["epoch"]) == (None, None)


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


class Trackers:
    """Functions with the signatures that experiment trackers have."""

    def __init__(self) -> None:
        self.seen = []

    def wandb_log(self, data, step=None, commit=None):
        self.seen.append((dict(data), step))

    def mlflow_log_metrics(
        self,
        metrics,
        step=None,
        synchronous=None,
        run_id=None,
        timestamp=None,
        model_id=None,
        dataset=None,
    ):
        self.seen.append((dict(metrics), step))

    def accelerator_log(self, values, step=None, log_kwargs={}):  # noqa: B006  # as it is there
        self.seen.append((dict(values), step))

    def lightning_log_metrics(self, metrics, step=None):
        self.seen.append((dict(metrics), step))


@pytest.mark.parametrize(
    "tracker",
    ["wandb_log", "mlflow_log_metrics", "accelerator_log", "lightning_log_metrics"],
)
def test_metrics_go_to_the_function_of_a_tracker_under_the_tags_of_scalars(tracker, start, figures):
    class Writer:
        def add_scalar(self, tag, value, step):
            tags.add(tag)

    trackers, tags = Trackers(), set()
    sink, scalars = Metrics(getattr(trackers, tracker)), Scalars(Writer())
    records = [
        start,
        figures,
        replace(figures, event="epoch", metrics={"CI_r": math.nan}),
        replace(figures, event="end"),
    ]
    for record in records:
        sink(record)
        scalars(record)
    (during, step), (whole, _) = trackers.seen
    assert during == {f"C_MIEI/{name}": value for name, value in figures.metrics.items()}
    assert step == 150
    assert list(whole) == ["C_MIEI/epoch/CI_r"]
    assert math.isnan(whole["C_MIEI/epoch/CI_r"])
    assert tags == during.keys() | whole.keys()


def test_metrics_have_a_prefix_and_refuse_what_cannot_be_called(figures, golden):
    seen = {}
    Metrics(lambda metrics, step: seen.update(metrics), prefix="fused/")(figures)
    assert set(seen) == {f"fused/{name}" for name in figures.metrics}
    with pytest.raises(ConfigError) as error:
        Metrics("wandb")
    golden(error.value)


@pytest.mark.slow  # importing them takes seconds
def test_metrics_go_to_the_real_accelerate_and_to_a_real_logger_of_lightning(tmp_path, figures):
    accelerate = pytest.importorskip("accelerate", reason="extra frameworks")
    loggers = pytest.importorskip("lightning.pytorch.loggers", reason="extra frameworks")

    class Tracker(accelerate.tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "ours", False, None

        def log(self, values, step=None, **kwargs):
            seen.append((values, step))

    seen = []
    accelerator = accelerate.Accelerator(cpu=True, log_with=Tracker(_blank=True))
    accelerator.init_trackers("ours")
    logger = loggers.CSVLogger(str(tmp_path))
    for function in (accelerator.log, logger.log_metrics):
        Metrics(function)(figures)
    logger.save()
    tagged = {f"C_MIEI/{name}": value for name, value in figures.metrics.items()}
    assert seen == [(tagged, 150)]
    (row,) = csv.DictReader((Path(logger.log_dir) / "metrics.csv").open())
    assert row.pop("step") == "150"
    assert {tag: float(value) for tag, value in row.items()} == tagged


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
