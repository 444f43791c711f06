"""The example for Lightning: run to the end, and resumed from its second checkpoint."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

pytestmark = pytest.mark.slow


def run(output: Path, *options: str) -> str:
    """What the script says at its end."""
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed (extra frameworks)")
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples/lightning_training.py"),
            "--output",
            str(output),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("C-MIEI attached") == 1
    return re.search(r"ended after .* samples substituted", done.stdout + done.stderr)[0]


def test_a_resumed_run_ends_with_the_weights_of_the_uninterrupted_one(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    ended = run(whole)
    assert "ended after 32 steps" in ended
    assert not re.search(r"\b0 of", ended)
    assert run(resumed, "--resume", str(whole / "epoch-1.ckpt")) == ended
    one, other = (torch.load(path / "weights.pt", weights_only=True) for path in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)
