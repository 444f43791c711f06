"""The commands end to end, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmiei_hooks.cli import main

ROOT = Path(__file__).parents[2]

PROJECT = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(6, 8)
        self.classifier = nn.Linear(8, 3)
    def forward(self, x):
        return self.classifier(self.encode(x))

def model():
    return Model()

class Parted(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(5, 3)
        self.classifier = nn.Linear(7, 3)
    def forward(self, a, v):
        return self.classifier(torch.cat([self.audio(a), self.video(v)], 1))

def parted():
    return Parted()

def parted_loader():
    return [(torch.randn(8, 6), torch.randn(8, 5), torch.zeros(8, dtype=torch.long))]

def loader():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5, 6, generator=generator), torch.tensor([0, 1, 2, 0, 1]))] * 2

class TwoInputs(nn.Module):
    # Two tensors to its fusion, in training only, and it needs the labels.
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(6, 4)
        self.fusion = nn.Bilinear(4, 4, 3)
        self.out = nn.Linear(3, 1)
    def forward(self, views, label):
        a, v = (self.encode(x) for x in views)
        if not self.training:
            return a, v
        return self.out(self.fusion(a, input2=v)) + 0 * label[:, None]

def two_inputs():
    torch.manual_seed(1)
    return TwoInputs()

def records():
    generator = torch.Generator().manual_seed(0)
    a, v = (torch.randn(5, 6, generator=generator) for _ in "av")
    return [{"id": ["x"] * 5, "views": (a, v), "label": torch.tensor([0, 1, 1, 0, 1])}] * 2

def forward(model, batch):
    return model(batch["views"], batch["label"].float())

def no_model():
    return 3

def no_loader():
    return 3

def needs_arguments(cfg):
    return cfg

def other_batches():
    return [{"x": torch.randn(5, 6), "label": 3}]

def interrupted():
    raise KeyboardInterrupt
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's project in the working directory, with a checkpoint as DDP would have saved it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_code.py").write_text(PROJECT)
    sys.modules.pop("their_code", None)
    import their_code

    torch.manual_seed(0)
    state = {f"module.{k}": v for k, v in their_code.model().state_dict().items()}
    torch.save({"state_dict": state | {"module.old.weight": torch.zeros(1)}}, "best.pth")
    return tmp_path


def arguments(**changes: str) -> list[str]:
    options = {
        "model": "their_code:model",
        "checkpoint": "best.pth",
        "data": "their_code:loader",
        "head": "classifier",
        "splits": "5,3",
        "names": "audio,video",
        "output": "out",
    } | changes
    return ["diagnose", *(word for k, v in options.items() if v for word in (f"--{k}", v))]


def test_diagnose_prints_a_table_and_writes_the_report(project, capsys):
    assert main(arguments()) == 0
    captured = capsys.readouterr()
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["n_samples"] == 10
    assert report["names"] == ["audio", "video"]
    assert report["checkpoint"]["unexpected"] == ["old.weight"]
    rows = [line.split("│") for line in captured.out.splitlines() if line.startswith("│")]
    for row, name in zip(rows, ["audio", "video"], strict=True):
        cells = [cell.strip() for cell in row[1:-1]]
        assert cells == [
            name,
            {"audio": "5", "video": "3"}[name],
            f"{report['influence'][name]['mean']:.4f}",
            f"{report['dominance'][name]['mean']:.1%}",
            f"{report['accuracy_without'][name]['mean']:.2%}",
        ]
    assert "1 unexpected, ignored: old.weight" in captured.out
    assert "written to out/report.json" in captured.out


def test_a_chain_of_two_inputs_and_one_logit_in_the_training_branch_with_its_own_forward(project):
    import their_code

    torch.save(their_code.two_inputs().state_dict(), "two.pth")
    options = arguments(
        model="their_code:two_inputs",
        checkpoint="two.pth",
        data="their_code:records",
        head="fusion,out",
        splits="",
        names="",
        modalities="{a: 0, v: input2}",
        measure="bernoulli",
        forward="their_code:forward",
    )
    assert main([*options, "--training-branch"]) == 0
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["head"] == "fusion -> out"
    assert report["names"] == ["a", "v"]
    assert report["splits"] == [[0], ["input2"]]
    assert report["measure"] == "bernoulli"
    model, (batch, _) = their_code.two_inputs(), their_code.records()
    with torch.no_grad():
        a, v = (model.encode(x) for x in batch["views"])
        z, without = (model.out(model.fusion(one, v)) for one in (a, torch.zeros_like(a)))
    p, q = z.sigmoid(), without.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean().item()
    assert report["influence"]["a"]["mean"] == pytest.approx(expected, rel=1e-4)


def test_discover_prints_a_line_that_attaches(project, capsys):
    options = ["diagnose", "--discover", "--model", "their_code:parted", "--data"]
    assert main([*options, "their_code:parted_loader"]) == 0
    line = 'cmiei_hooks.attach(model, head="classifier", splits=[4, 3], names=["a", "v"])'
    assert line in capsys.readouterr().out.splitlines()
    assert main([*options, "their_code:loader"]) == 3
    assert main([*options, "their_code:no_loader"]) == 3
    assert main(options[:-1]) == 2
    assert "missing --data" in capsys.readouterr().err


def test_drop_is_handed_on(project):
    for drop in ("zero", "mean"):
        assert main(arguments(drop=drop, output=drop)) == 0
    zero, mean = (json.loads(Path(d, "report.json").read_text()) for d in ("zero", "mean"))
    assert (zero["drop"], mean["drop"]) == ("zero", "mean")
    assert zero["influence"] != mean["influence"]


def test_names_are_not_taken_for_markup(project, capsys):
    assert main(arguments(names="[red]a,[/b]")) == 0
    assert "[red]a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data": ""}, 2, "missing --data"),
        ({"modalities": "{a: 0, v: 1}"}, 3, "both say where"),
        ({"splits": "", "modalities": "{a: 0}"}, 3, "two or more modalities"),
        ({"forward": "their_code:backward"}, 3, "no function 'backward'"),
        ({"logits": "2.5"}, 3, "output= cannot say"),
        ({"model": "", "head": ""}, 2, "missing --model, --head"),
        ({"head": "clasifier"}, 3, "weights of the head|no module named 'clasifier'"),
        ({"splits": "5,4"}, 3, "5 + 4 = 9"),
        ({"names": "a"}, 3, "1 names"),
        ({"checkpoint": "worst.pth"}, 3, "cannot be read"),
        ({"model": "their_code:mdoel"}, 3, "did you mean 'model'"),
        ({"model": "their_code:no_model"}, 3, "does not return a model"),
        ({"data": "their_code:no_loader"}, 3, "cannot be iterated"),
        ({"data": "their_code:other_batches"}, 3, "cannot be called with a batch"),
        ({"model": "their_code:needs_arguments"}, 3, "cannot be called without arguments"),
        ({"model": ".their_code:model"}, 3, "cannot be imported"),
        ({"output": "best.pth"}, 3, "output directory"),
        ({"data": "their_code:interrupted"}, 130, "interrupted"),
        ({"device": "cuda:99"}, 3, "cannot be moved to 'cuda:99'"),
        ({"device": "gpu"}, 3, "cannot be moved to 'gpu'"),
    ],
)
def test_errors_have_a_message_and_an_exit_code(project, capsys, changes, code, message):
    assert main(arguments(**changes)) == code
    error = capsys.readouterr().err
    assert any(part in error for part in message.split("|"))
    assert "Traceback" not in error
    assert not (project / "out" / "report.json").exists()


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], arguments(splits="5,x"), arguments(modalities="{a: ["), ["demo", "--no"]],
)
def test_a_wrong_command_line_exits_with_2(project, argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["diagnose", "demo"])
def test_the_tools_run_from_anywhere_without_installation(tmp_path, tool):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"cmiei {tool}" in done.stdout
