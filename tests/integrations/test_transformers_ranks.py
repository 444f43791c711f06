"""The callback on two ranks of the Trainer, under torchrun."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers import ROOT, torchrun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None,
        reason="transformers is not installed (extra transformers)",
    ),
]
SCRIPT = Path(__file__).with_name("transformers_ranks.py")


def trained(output: Path, by: str, *checkpoint: str) -> tuple[list[dict], str]:
    """What the ranks had at the end, and what was printed."""
    done = torchrun(SCRIPT, by, str(output), *checkpoint, path=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    return [torch.load(output / f"{by}-{rank}.pt") for rank in (0, 1)], done.stdout


def test_the_weights_are_those_written_by_hand_and_those_of_a_resumed_run(tmp_path):
    ours, printed = trained(tmp_path / "ours", "callback")
    by_hand, _ = trained(tmp_path / "hand", "hand")
    checkpoint = tmp_path / "ours" / "checkpoint-5"
    resumed, _ = trained(tmp_path / "resumed", "callback", str(checkpoint))
    for one, other, later in zip(ours, by_hand, resumed, strict=True):
        for key, weight in one["weights"].items():
            assert weight.equal(other["weights"][key])
            assert weight.equal(later["weights"][key])
        assert one["state"]["totals"].equal(other["state"]["totals"])
        assert one["state"]["step"] == later["state"]["step"] == 12
        assert one["state"]["totals"][3] > 0  # substituted samples
    assert printed.count("C-MIEI attached") == 1
    figures = [[(row["step"], row["CI_r"]) for row in rank["logged"]] for rank in ours]
    assert figures[0] == figures[1]  # those of both ranks
    assert len(figures[0]) == 4
