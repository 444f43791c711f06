"""``cmiei diagnose`` and ``cmiei run`` for heads that are no single module of the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from heads import BRANCH_SHAPES, SHAPES

from cmiei_hooks import audit
from cmiei_hooks.cli import main

PROJECT = """
import torch
from heads import BRANCH_SHAPES, SHAPES, gated

def late(name):
    torch.manual_seed(0)
    return BRANCH_SHAPES[name].make()

def images():
    torch.manual_seed(1)
    return [torch.randn(8, 3, 6)]

def whole():
    torch.manual_seed(0)
    return SHAPES["the whole model, token ids"].make()

def texts():
    torch.manual_seed(1)
    return [SHAPES["the whole model, token ids"].batch()]

def combine(logits):
    return gated(logits)

if __name__ == "__main__":
    model = late("mean")
    for _ in range(6):
        model(torch.randn(8, 3, 6))[0].square().sum().backward()
"""

BRANCHES = "rgb=clf_rgb,depth=clf_depth"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "late_fusion.py").write_text(PROJECT)
    sys.modules.pop("late_fusion", None)
    import late_fusion

    return late_fusion


def diagnosed(model: torch.nn.Module, *words: str) -> dict:
    torch.save(model.state_dict(), "best.pth")
    options = ["diagnose", "--checkpoint", "best.pth", "--output", "out", *words]
    assert main(options) == 0
    return json.loads(Path("out", "report.json").read_text())


@pytest.mark.parametrize(
    ("name", "combine"), [("mean", "mean"), ("gated sum", "late_fusion:combine")]
)
def test_diagnose_measures_branches_as_audit_does(project, name, combine, capsys):
    model = project.late(name)
    words = ["--model", "late_fusion:late", "--model-args", f"name={name}"]
    words += ["--data", "late_fusion:images", "--head", BRANCHES, "--combine", combine]
    report = diagnosed(model, *words)
    expected = audit(model, project.images(), **BRANCH_SHAPES[name].where)
    for modality in ("rgb", "depth"):
        found = report["influence"][modality]["mean"]
        assert found == pytest.approx(expected.influence[modality].mean)
    assert "(clf_rgb, clf_depth)" in capsys.readouterr().out


def test_diagnose_measures_the_whole_model_with_token_ids(project, capsys):
    model = project.whole()
    words = ["--model", "late_fusion:whole", "--data", "late_fusion:texts", "--head", ""]
    words += ["--modalities", "{text: text, image: image}", "--fill", "text=9"]
    report = diagnosed(model, *words)
    expected = audit(model, project.texts(), **SHAPES["the whole model, token ids"].where)
    found = report["influence"]["text"]["mean"]
    assert found == pytest.approx(expected.influence["text"].mean)


def test_without_combine_the_command_says_what_is_missing(project, capsys):
    torch.save(project.late("mean").state_dict(), "best.pth")
    words = ["--model", "late_fusion:late", "--model-args", "name=mean", "--checkpoint", "best.pth"]
    assert main(["diagnose", *words, "--data", "late_fusion:images", "--head", BRANCHES]) == 3
    assert "combine='sum', 'mean'" in capsys.readouterr().err


def test_run_observes_branches_from_the_first_step_on(project, capsys):
    words = ["run", "--head", BRANCHES, "--combine", "mean", "--output", "out"]
    assert main([*words, "--", "late_fusion.py"]) == 0
    assert "ended after 6 steps" in capsys.readouterr().out


def test_run_takes_no_function_that_combines(project, capsys):
    words = ["run", "--head", BRANCHES, "--combine", "late_fusion:combine"]
    assert main([*words, "--", "late_fusion.py"]) == 2
    assert "sum or mean" in capsys.readouterr().err
