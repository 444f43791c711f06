"""The callback on two ranks, whether Lightning starts the script again or forks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("lightning") is None,
        reason="lightning is not installed (extra lightning)",
    ),
]
SCRIPT = Path(__file__).with_name("lightning_ranks.py")


def trained(tmp_path, strategy: str, by: str) -> tuple[list[dict], str]:
    """What the ranks had at the end, and what was printed."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), strategy, by, str(tmp_path / by)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"{by}-{rank}.pt") for rank in (0, 1)]
    return ranks, done.stdout


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_the_weights_are_those_of_the_lines_written_by_hand(tmp_path, strategy):
    ours, printed = trained(tmp_path, strategy, "callback")
    by_hand, _ = trained(tmp_path, strategy, "hand")
    for one, other in zip(ours, by_hand, strict=True):
        assert all(one["weights"][key].equal(other["weights"][key]) for key in other["weights"])
        assert one["state"]["step"] == other["state"]["step"] == 8
        assert one["state"]["totals"].equal(other["state"]["totals"])
        assert one["state"]["totals"][3] > 0  # substituted samples
    assert printed.count("C-MIEI attached") == 1
    # The monitored metrics are those of both ranks.
    sums = [rank["state"]["sums"] for rank in ours]
    influence = sum(s[3] / s[0] * s[1] for s in sums) / sum(s[1] for s in sums)
    for rank in ours:
        assert rank["monitored"]["CI_r"].item() == pytest.approx(influence.item(), rel=1e-6)
