"""``cmiei discover`` and ``cmiei verify``: what ``diagnose --discover`` and ``--verify`` do."""

from __future__ import annotations

import sys

import pytest
import torch

from cmiei_hooks import verify
from cmiei_hooks.cli import main

PROJECT = """
import torch
from torch import nn

class Parted(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(5, 3)
        self.classifier = nn.Linear(7, 3)
    def forward(self, a, v):
        return self.classifier(torch.cat([self.audio(a), self.video(v)], 1))

def model():
    torch.manual_seed(0)
    return Parted()

def loader():
    torch.manual_seed(1)
    return [(torch.randn(8, 6), torch.randn(8, 5), torch.zeros(8, dtype=torch.long))]

def dicts():
    (a, v, label), = loader()
    return [{"video": v, "audio": a, "label": label}]

def forward(model, batch):
    return model(batch["audio"], v=batch["video"])

def empty():
    return []
"""

MODEL = ["--model", "parted_code:model", "--data", "parted_code:loader"]
HEAD = ["--head", "classifier", "--splits", "4,3", "--names", "a,v"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "parted_code.py").write_text(PROJECT)
    sys.modules.pop("parted_code", None)
    import parted_code

    return parted_code


def printed(capsys, words: list[str], code: int = 0) -> str:
    assert main(words) == code
    return capsys.readouterr().out


def test_discover_is_the_option_of_diagnose(project, capsys):
    own = printed(capsys, ["discover", *MODEL])
    assert 'attach(model, head="classifier", splits=[4, 3], names=["a", "v"])' in own
    assert own == printed(capsys, ["diagnose", "--discover", *MODEL])
    grouped = ["--together", "sound=a", "--together", "vision=1"]
    assert "--splits sound=4,vision=3" in printed(capsys, ["discover", *MODEL, *grouped])


def test_what_discover_prints_is_verified_and_audited(project, capsys):
    lines = printed(capsys, ["discover", *MODEL]).splitlines()
    found = next(line for line in lines if line.startswith("# cmiei diagnose "))
    words = found.removeprefix("# cmiei diagnose ").split()
    assert main(["verify", *MODEL, *words]) == 0
    torch.save(project.model().state_dict(), "best.pth")
    assert main(["diagnose", *MODEL, "--checkpoint", "best.pth", *words]) == 0


def test_verify_prints_what_python_prints(project, capsys):
    own = printed(capsys, ["verify", *MODEL, *HEAD])
    assert own == printed(capsys, ["diagnose", "--verify", *MODEL, *HEAD])
    ((a, v, _),) = project.loader()
    assert verify(project.model(), a, v, head="classifier", splits=[4, 3], names=["a", "v"]).ok
    assert own == capsys.readouterr().out


def test_verify_takes_a_forward_of_the_users(project, capsys):
    own = printed(capsys, ["verify", *MODEL, *HEAD])
    words = ["--data", "parted_code:dicts", "--forward", "parted_code:forward"]
    assert own == printed(capsys, ["verify", *MODEL, *words, *HEAD])


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "wrong",
    [["--splits", "5,2"], ["--head", "audio"], ["--splits", "3,4"], ["--names", "v,a"]],
    ids=" ".join,
)
def test_verify_ends_with_1_if_a_check_says_no(project, capsys, wrong):
    assert "│ no │" in printed(capsys, ["verify", *MODEL, *HEAD, *wrong], 1)


def test_the_weights_of_a_checkpoint_are_loaded(project, capsys):
    torch.save({"classifier.weight": torch.zeros(3, 7)}, "zeros.pth")
    weights = ["--checkpoint", "zeros.pth"]
    assert "multiplies it by 0" in printed(capsys, ["verify", *MODEL, *HEAD, *weights], 1)
    assert "permuting a changes nothing" in printed(capsys, ["discover", *MODEL, *weights])
    for command in (["discover", *MODEL], ["verify", *MODEL, *HEAD]):
        assert main([*command, "--checkpoint", "none.pth"]) == 3
        assert "none.pth: the checkpoint cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["discover"], ["verify", *HEAD]], ids=lambda words: words[0])
def test_without_a_batch_there_is_nothing_to_run(project, capsys, command):
    assert main([*command, *MODEL, "--data", "parted_code:empty"]) == 3
    assert "there is no batch to run the model with" in capsys.readouterr().err
