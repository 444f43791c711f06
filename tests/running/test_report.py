"""The report of a run, from records that were made by hand."""

from __future__ import annotations

import json
import math

import pytest

from cmiei_hooks import Config, LogRecord
from cmiei_hooks.reporting import to_markdown
from cmiei_hooks.running import Program
from cmiei_hooks.running.report import RunReport, in_sections

NAMES, SPLITS = ("audio", "video"), (4, 3)
CONFIG = Config(head="classifier", splits=SPLITS, names=NAMES)


def metrics(audio: float, ratio: float = 0.0) -> dict[str, float]:
    influence = {"CI_audio": audio, "CI_video": 0.1}
    return {"C_MIEI_Ratio": ratio, **influence, "Hist_audio": 0.75, "Hist_video": 0.25}


def record(event, step=0, epoch=0, **content) -> LogRecord:
    return LogRecord(event, "classifier", NAMES, SPLITS, CONFIG, step, epoch, **content)


TOTALS = {"steps": 9, "estimates": 3, "samples": 48, "substituted": 12}


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return Program(["train.py"])


def reported(program, *points, act=False, code=0, **end) -> RunReport:
    last = points[-1].metrics if points else metrics(math.nan)
    end = record("end", 8, **{"metrics": last, "totals": TOTALS, **end})
    return RunReport([record("start"), *points, end], program, code, act, "cmiei run")


def text(report) -> str:
    return to_markdown(in_sections(report.to_dict())).split("<details>")[0]


def test_an_observed_run(program, golden):
    points = [record("figures", step, metrics=metrics(0.2 + step / 100)) for step in (0, 3, 6)]
    golden(text(reported(program, *points)))


def test_only_settings_with_an_effect_are_shown(program):
    def shown(**settings) -> str:
        run = reported(program, record("figures", metrics=metrics(0.3))).to_dict()
        run["settings"] = Config(**settings).to_dict()
        return to_markdown(in_sections(run)).split("Settings in force")[1]

    observed = shown(p_max=0.0, warmup_steps=0)
    assert "| K | 3 |" in observed
    assert not [key for key in ("WARMUP", "ABS_THR", "SIGMA", "GATE") if key in observed]
    acted = shown(warmup_steps=9)
    assert "| WARMUP_STEPS | 9 |" in acted
    assert "ABS_THR" in acted
    assert "WARMUP_EPOCHS" not in acted
    assert "WARMUP_EPOCHS" in shown(preset="selfpaced", end_epoch=9)


def test_a_run_that_acted_and_failed(program, golden):
    points = [record("epoch", step, step, metrics=metrics(0.3, 0.5)) for step in (0, 3)]
    golden(text(reported(program, *points, act=True, code=1)))


def test_a_run_that_should_have_acted(program, golden):
    points = [record("figures", metrics=metrics(0.01))]
    reason = "the largest influence was 0.01, ABS_THR is 0.03"
    totals = {**TOTALS, "substituted": 0}
    golden(text(reported(program, *points, act=True, reason=reason, totals=totals)))


def test_a_run_without_finite_logits(program, golden):
    golden(text(reported(program, metrics=dict.fromkeys(metrics(0), math.nan))))


def test_a_long_run_is_averaged_to_sixty_points(program):
    points = [record("figures", step, metrics=metrics(float(step))) for step in range(0, 1000, 2)]
    curve = reported(program, *points).to_dict()["curve"]
    assert len(curve) <= 60
    assert (curve[0]["step"], curve[0]["CI_audio"]) == (16, 8.0)


def test_an_average_leaves_out_what_is_not_finite(program):
    points = [record("figures", step, metrics=metrics(float(step))) for step in range(100)]
    points[1] = record("figures", 1, metrics=metrics(math.nan))
    curve = reported(program, *points).to_dict()["curve"]
    assert curve[0]["CI_audio"] == 0.0


def test_the_files(program, tmp_path):
    points = [record("figures", step, metrics=metrics(0.2)) for step in (0, 3)]
    path = reported(program, *points).save(tmp_path / "report")
    assert path.read_text().count("<svg role") == 3
    content = json.loads((path.parent / "report.json").read_text())
    assert [point["step"] for point in content["curve"]] == [0, 3, 8]
    assert content["totals"] == TOTALS
    assert len(content["environment"]["sha256"]) == 64
