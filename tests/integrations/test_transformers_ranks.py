"""The callback on two ranks of the Trainer, which are told what torchrun tells them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from warm_python import WarmPython

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None,
        reason="transformers is not installed (extra transformers)",
    ),
]
SCRIPT = Path(__file__).with_name("transformers_ranks.py")


def trained(python: WarmPython, output: Path, by: str, *checkpoint: str) -> tuple[list[dict], str]:
    """What the ranks had at the end, and what was printed."""
    words = [SCRIPT, by, output, *checkpoint]
    having = python.having("transformers.trainer")
    done = having.run_ranks(words, env={"PYTHONPATH": f"{ROOT}:{ROOT}/tests"})
    assert not any(rank.returncode for rank in done), done[0].stderr + done[1].stderr
    found = [torch.load(output / f"{by}-{rank}.pt") for rank in (0, 1)]
    return found, "".join(rank.stdout for rank in done)


def test_the_weights_are_those_written_by_hand_and_those_of_a_resumed_run(python, tmp_path):
    ours, printed = trained(python, tmp_path / "ours", "callback")
    by_hand, _ = trained(python, tmp_path / "hand", "hand")
    checkpoint = tmp_path / "ours" / "checkpoint-5"
    resumed, _ = trained(python, tmp_path / "resumed", "callback", str(checkpoint))
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
