"""The example of each framework: run to the end, and resumed from its checkpoint of an epoch."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import ROOT, torchrun
from warm_python import WarmPython

EXAMPLES = ROOT / "examples"
ENDED = re.compile(r"ended after (\d+) steps .* (\d+) of (\d+) measured samples substituted")


@dataclass(frozen=True)
class Example:
    """One script of the folder."""

    script: str
    module: str
    """What it imports first; its framework must be installed."""
    checkpoint: str
    """What it leaves after the second of four epochs."""
    ranks: int = 1

    def run(self, python: WarmPython, output: Path, resume: Path | None = None) -> re.Match[str]:
        """Run it in a process of its own; return what its last line says."""
        if importlib.util.find_spec(self.module.partition(".")[0]) is None:
            pytest.skip(f"{self.module} is not installed (extra: frameworks)")
        options = ["--output", str(output), *(["--resume", str(resume)] if resume else [])]
        words = [EXAMPLES / self.script, *options]
        python, env = python.having(self.module), {"PYTHONPATH": str(ROOT)}
        if self.ranks == 1:
            all_done = [python.run(words, env=env)]
        elif resume is None:
            all_done = [torchrun(python, *words)]
        else:
            all_done = python.run_ranks(words, env=env)
        printed = "".join(done.stdout + done.stderr for done in all_done)
        assert not any(done.returncode for done in all_done), printed
        assert printed.count("C-MIEI attached") == 1
        ended = ENDED.search(printed)
        assert ended is not None
        return ended


EXAMPLE_OF = {
    "lightning": Example("lightning_training.py", "lightning.pytorch", "epoch-1.ckpt"),
    "transformers": Example("transformers_training.py", "transformers.trainer", "checkpoint-16"),
    "accelerate": Example("accelerate_training.py", "accelerate", "epoch-2"),
    "fabric": Example("fabric_training.py", "lightning.pytorch", "epoch-2.ckpt"),
    "ignite": Example("ignite_training.py", "ignite.engine", "checkpoint_16.pt"),
    "torchrun": Example("torchrun_training.py", "torch", "epoch-2.pt", ranks=2),
    "peft": Example("peft_training.py", "peft", "epoch-2"),
    "mmengine": Example("mmengine_training.py", "mmengine.runner", "epoch_2.pth"),
    "yacs": Example("yacs_training.py", "yacs", "epoch-2.pt"),
}


def equal_weights(one: Path, two: Path) -> bool:
    a, b = (torch.load(folder / "weights.pt", weights_only=True) for folder in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLE_OF.values(), ids=EXAMPLE_OF)
def test_a_resumed_example_ends_with_the_weights_of_the_uninterrupted_one(
    python, example, tmp_path
):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    ended = example.run(python, whole)
    steps, substituted, measured = map(int, ended.groups())
    assert steps == 32
    assert 0 < substituted < measured
    assert example.run(python, resumed, whole / example.checkpoint)[0] == ended[0]  # it counted on
    assert equal_weights(whole, resumed)


@pytest.mark.slow
@pytest.mark.negative_control
def test_with_a_handle_that_begins_anew_the_weights_are_others(python, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    example = EXAMPLE_OF["yacs"]
    ended = example.run(python, whole)
    checkpoint = torch.load(whole / example.checkpoint, weights_only=True)
    checkpoint["cmiei"]["step"] = 0
    torch.save(checkpoint, tmp_path / "anew.pt")
    assert example.run(python, resumed, tmp_path / "anew.pt")[0] != ended[0]
    assert not equal_weights(whole, resumed)


def test_every_example_is_run_here():
    scripts = {path.name for path in EXAMPLES.glob("*_training.py")}
    assert scripts == {example.script for example in EXAMPLE_OF.values()}
